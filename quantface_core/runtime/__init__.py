"""What the library asks of the process it runs in: its memory, its threads, torch's modes."""
