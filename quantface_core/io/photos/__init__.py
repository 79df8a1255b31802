"""Read and write photo files without losing what they carry; what a format cannot hold is reported."""

from .memory import decode_photo, encode_photo
from .photo import FORMATS, HEIF, JXL, RAW, READABLE, WRITABLE, Metadata, Pages, Photo, Size
from .read import read_pages, read_photo
from .write import check_output, write_pages, write_photo

__all__ = [
    "FORMATS",
    "HEIF",
    "JXL",
    "RAW",
    "READABLE",
    "WRITABLE",
    "Metadata",
    "Pages",
    "Photo",
    "Size",
    "check_output",
    "decode_photo",
    "encode_photo",
    "read_pages",
    "read_photo",
    "write_pages",
    "write_photo",
]
