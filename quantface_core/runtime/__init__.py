"""Process-wide settings: the memory allocator, threads, the device, torch's inference mode and compilation."""
