"""Read and write photo files without losing what they carry; what a format cannot hold is reported."""

from .photo import HEIF, JXL, MAX_PIXELS, RAW, READABLE, WRITABLE, Metadata, Pages, Photo, check_size
from .read import read_pages, read_photo
from .write import write_pages, write_photo

__all__ = [
    "HEIF",
    "JXL",
    "MAX_PIXELS",
    "RAW",
    "READABLE",
    "WRITABLE",
    "Metadata",
    "Pages",
    "Photo",
    "check_size",
    "read_pages",
    "read_photo",
    "write_pages",
    "write_photo",
]
