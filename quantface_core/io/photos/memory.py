"""Photos as bytes, as a server gets and sends them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from ...errors import ImageError
from .photo import Pages, Photo, Warnings
from .read import read_photo
from .write import encode_pages


def decode_photo(content: bytes | bytearray | memoryview) -> Photo:
    """`read_photo` for the bytes of a file, whatever its format. Raises ImageError, without a file's name."""
    if not isinstance(content, bytes | bytearray | memoryview):
        raise ImageError(f"a photo's bytes are bytes, such as file.read(), got {type(content).__name__}")
    try:
        with TemporaryDirectory(prefix="quantface-") as folder:  # readers map files
            path = Path(folder, "photo")
            path.write_bytes(bytes(content))  # a view may skip some
            try:
                return read_photo(path)
            except ImageError as error:
                raise ImageError(str(error).removeprefix(f"{path}: ")) from error
    except OSError as error:
        raise ImageError(f"cannot decode without room for temporary files ({error.strerror or error})") from error


def encode_photo(photo: Photo, suffix: str) -> tuple[bytes, Warnings]:
    """The bytes that `write_photo` writes to a file of this suffix, such as ".jpg", and its warnings.

    Raises ImageError.
    """
    return encode_pages(Pages((photo,)), suffix)
