"""What a file says beside its pixels comes out again, or a note says what its new format cannot hold."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantface_core.io.photos import read_photo, tiff, tiff_write, write_photo
from quantface_core.io.photos.ifd import RATIONAL, Directory
from tests.io.photos.camera import camera, tags

XMP = b"""<?xpacket begin='' id='W5M0MpCehiHzreSzNTczkc9d'?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
tiff:Orientation="1" rdf:about="" xmlns:dc="..."/></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"""
IPTC = b"\x1c\x02\x78\x00\x07caption\x1c\x02\x50\x00\x06Sender"


@pytest.mark.parametrize("source", ["a.jpg", "a.png", "a.tif", "a.bmp"])
@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.tif", "b.webp"])
def test_resolution(tmp_path: Path, picture: np.ndarray, source: str, target: str) -> None:
    Image.fromarray(picture).save(tmp_path / source, dpi=(300, 240))
    write_photo(read_photo(tmp_path / source), tmp_path / target)
    with Image.open(tmp_path / target) as image:
        if target == "b.webp":
            found = tuple(float(image.getexif()[tag]) for tag in (282, 283))
        else:
            found = tuple(float(v) for v in image.info["dpi"])
    assert np.allclose(found, (300, 240), atol=0.6)


def test_no_resolution_is_made_up(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + camera())
    write_photo(read_photo(tmp_path / "a.jpg"), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        assert "dpi" not in image.info


@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.tif", "b.webp"])
def test_a_resolution_that_no_file_means_is_left_out(tmp_path: Path, picture: np.ndarray, target: str) -> None:
    """It would not fit the result."""
    directory = Directory("<")
    for tag in (tiff.X_DPI, tiff.Y_DPI):
        directory.put(tag, RATIONAL, 0xFFFFFFFF, 1)
    (tmp_path / "a.tif").write_bytes(tiff_write.write([(picture, directory)], [3]))
    photo = read_photo(tmp_path / "a.tif")
    assert photo.metadata.dpi is None
    write_photo(photo, tmp_path / target)


def _rich_jpeg(path: Path, picture: np.ndarray, orientation: int = 1) -> None:
    xmp = _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP.replace(b'tion="1"', b'tion="%d"' % orientation))
    photoshop = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">L", len(IPTC)) + IPTC + b"\0" * (len(IPTC) % 2)
    Image.fromarray(picture).save(path, quality=95, comment="Grüße", extra=xmp + _segment(0xED, photoshop))


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.tif", "b.webp"])
def test_xmp_iptc_and_comment(tmp_path: Path, picture: np.ndarray, target: str) -> None:
    _rich_jpeg(tmp_path / "a.jpg", picture)
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.metadata.xmp == XMP
    assert photo.metadata.iptc == IPTC
    assert photo.metadata.comment == "Grüße".encode()
    notes = write_photo(photo, tmp_path / target)
    back = read_photo(tmp_path / target)
    assert back.metadata.xmp == XMP
    if target == "b.webp":
        assert any("IPTC and the comment" in note for note in notes)
    else:
        assert notes == ()
    if target in ("b.jpg", "b.tif"):
        assert back.metadata.iptc == IPTC
    if target == "b.jpg":
        assert back.metadata.comment == photo.metadata.comment
    if target == "b.tif":
        assert tags(back.exif)[270] == "Grüße\0".encode()
    if target == "b.png":
        with Image.open(tmp_path / target) as image:
            image.load()
            assert image.text["Comment"] == "Grüße"
            raw = image.text["Raw profile type iptc"].split("\n", 3)
        block = bytes.fromhex(raw[3].replace("\n", ""))
        assert IPTC in block
        assert int(raw[2]) == len(block)


def test_xmp_that_says_how_to_turn_is_followed_once(tmp_path: Path, picture: np.ndarray) -> None:
    _rich_jpeg(tmp_path / "a.jpg", picture, orientation=6)
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.pixels.shape == (32, 24, 3)
    assert photo.metadata.xmp == XMP
    write_photo(photo, tmp_path / "b.jpg")
    assert read_photo(tmp_path / "b.jpg").pixels.shape == (32, 24, 3)


def test_xmp_does_not_claim_what_is_left_out(tmp_path: Path, picture: np.ndarray) -> None:
    """A viewer would look for the phone's video, gain map or further XMP behind a result, in vain."""
    claims = b"""GCamera:MotionPhoto="1" Camera:MicroVideo='1' xmpNote:HasExtendedXMP="A0" hdrgm:Version="1.0" """
    elements = b"<hdrgm:Version>1.0</hdrgm:Version><Camera:MotionPhoto>1</Camera:MotionPhoto><dc:a>1</dc:a>"
    kept = XMP.replace(
        b'xmlns:dc="..."/>', b'xmlns:dc="..." GCamera:MotionPhotoVersion="1"><dc:a>1</dc:a></rdf:Description>'
    )
    there = kept.replace(b"GCamera:", claims + b"GCamera:").replace(b"<dc:a>1</dc:a>", elements)
    segment = _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + there)
    Image.fromarray(picture).save(tmp_path / "a.jpg", extra=segment)
    assert read_photo(tmp_path / "a.jpg").metadata.xmp == kept


def test_xmp_too_large_for_jpeg_is_told(tmp_path: Path, picture: np.ndarray) -> None:
    _rich_jpeg(tmp_path / "a.jpg", picture)
    photo = read_photo(tmp_path / "a.jpg")
    large = re.sub(rb'about=""', b'about="' + b"x" * 70_000 + b'"', XMP)
    photo = replace(photo, metadata=replace(photo.metadata, xmp=large))
    assert any("XMP of more than 64 kB" in note for note in write_photo(photo, tmp_path / "b.jpg"))
    assert write_photo(photo, tmp_path / "b.png") == ()
    assert read_photo(tmp_path / "b.png").metadata.xmp == large
