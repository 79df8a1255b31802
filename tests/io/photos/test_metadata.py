"""What a file says beside its pixels comes out again, or a note says what its new format cannot hold."""

from __future__ import annotations

import io
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from quantface_core.io.photos import Photo, exif, png, read_photo, write_photo
from quantface_core.io.photos.ifd import Directory, Entry, directories, header, pack

XMP = b"""<?xpacket begin='' id='W5M0MpCehiHzreSzNTczkc9d'?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
tiff:Orientation="1" rdf:about="" xmlns:dc="..."/></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"""
IPTC = b"\x1c\x02\x78\x00\x07caption\x1c\x02\x50\x00\x06Sender"
WORKFLOW = '{"nodes": [{"id": 1, "text": "ein Porträt"}]}'


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def camera(order: Any = "<", orientation: int = 1) -> bytes:
    """EXIF with what is easily lost: names beyond ASCII, a maker's note, a size, an unknown tag, a thumbnail."""
    first, sub, thumbnail = Directory(order), Directory(order), Directory(order)
    first.entries[0x013B] = Entry(2, "Jürgen Müller".encode() + b"\0")
    first.put(0x0112, 3, orientation)
    first.entries[0xC4A5] = Entry(7, b"PrintIM\x000300")
    sub.entries[0x9003] = Entry(2, b"2026:11:26 10:00:00\0")
    sub.entries[0x927C] = Entry(7, b"maker's own" * 9)
    sub.put(0xA002, 4, 32)
    sub.put(0xA003, 4, 24)
    first.children[0x8769] = sub
    thumbnail.put(0x0201, 4, 0)
    place = 8 + len(pack(first, 8))
    return header(order) + pack(first, 8, place) + pack(thumbnail, place)


def tags(blob: bytes | None) -> dict[int, bytes]:
    assert blob
    directory = exif.parse(blob)
    assert directory
    found = {tag: entry.data for tag, entry in directory.entries.items()}
    for child in directory.children.values():
        found |= {tag: entry.data for tag, entry in child.entries.items()}
    return found


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("source", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.webp", "b.tif"])
def test_camera_data_go_from_any_format_to_any(
    tmp_path: Path, picture: np.ndarray, source: str, target: str, order: Any
) -> None:
    write_photo(Photo(picture, exif=exif.upright(camera(order))), tmp_path / source)
    write_photo(read_photo(tmp_path / source), tmp_path / target)
    expected = tags(camera(order))
    kept = tags(read_photo(tmp_path / target).exif)
    # Of a TIFF's first directory only what describes the photo is taken over.
    unknown = {0xC4A5} if ".tif" in source + target else set()
    assert {t: kept.get(t) for t in expected.keys() - {0x8769, *unknown}} == {
        t: v for t, v in expected.items() if t not in {0x8769, *unknown}
    }
    with Image.open(tmp_path / target) as image:
        assert image.getexif().get_ifd(0x8769)[0x9003].startswith("2026:11:26")


def test_the_thumbnail_goes_and_the_rest_keeps_its_place() -> None:
    for order in ("<", ">"):
        blob = camera(order, orientation=6)
        after = exif.upright(b"Exif\0\0" + blob)
        assert after
        changed = [i for i in range(len(blob)) if blob[i] != after[i]]
        assert len(after) == len(blob)
        assert len(changed) <= 1 + 4
        with Image.open(io.BytesIO(_jpeg(after))) as image:
            assert image.getexif()[0x0112] == 1
            assert not image.getexif().get_ifd(1)


def _jpeg(blob: bytes) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=b"Exif\0\0" + blob)
    return file.getvalue()


def test_the_size_told_is_the_result_s(tmp_path: Path, picture: np.ndarray) -> None:
    photo = Photo(np.repeat(np.repeat(picture, 2, 0), 2, 1), exif=exif.upright(camera()))
    write_photo(photo, tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        camera_data = image.getexif().get_ifd(0x8769)
    assert (camera_data[0xA002], camera_data[0xA003]) == (64, 48)


def test_damaged_camera_data_cost_nothing_but_themselves(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fnothing")
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.pixels.shape == picture.shape
    assert photo.exif is None
    assert any("EXIF" in note for note in photo.notes)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_what_is_no_camera_data_costs_nothing_but_itself(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    source = tmp_path / f"a{suffix}"
    Image.fromarray(picture).save(source, exif=b"Exif\0\0no exif at all")
    photo = read_photo(source)
    assert photo.exif is None
    assert photo.notes == ("camera data (EXIF) are damaged and left out",)


def test_tags_of_stored_pixels_do_not_get_into_a_tiff(tmp_path: Path, picture: np.ndarray) -> None:
    """Pillow takes a TIFF's whole directory for camera data of the JPEG that it writes."""
    data = Image.Exif()
    for tag, value in {338: 2, 339: 2, 266: 2, 254: 4, 322: 16, 50706: b"\1\4\0\0", 271: "Maker"}.items():
        data[tag] = value
    Image.fromarray(picture).save(tmp_path / "a.png", exif=data)
    assert write_photo(read_photo(tmp_path / "a.png"), tmp_path / "a.tif") == ()
    with Image.open(tmp_path / "a.tif") as image:
        assert np.array_equal(np.asarray(image), picture)
        assert image.getexif()[271] == "Maker"
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels, picture)


@pytest.mark.parametrize("maker", [True, False])
def test_camera_data_too_large_for_jpeg(tmp_path: Path, picture: np.ndarray, maker: bool) -> None:
    directory = exif.parse(camera())
    assert directory
    tag = 0x927C if maker else 0x9286
    directory.children[0x8769].entries[tag] = Entry(7, bytes(70_000))
    blob = header("<") + pack(directory, 8)
    notes = write_photo(Photo(picture, exif=blob), tmp_path / "a.jpg")
    assert any("64 kB" in note for note in notes)
    back = read_photo(tmp_path / "a.jpg")
    assert (back.exif is not None) == maker
    if maker:
        assert tags(back.exif)[0x013B] == tags(blob)[0x013B]
    for name in ("a.png", "a.webp", "a.tif"):
        assert write_photo(Photo(picture, exif=blob), tmp_path / name) == ()
        assert tags(read_photo(tmp_path / name).exif)[tag] == bytes(70_000)


@pytest.mark.parametrize("depth", [8, 16])
def test_text_of_png_comes_back_byte_for_byte(tmp_path: Path, picture: np.ndarray, depth: int) -> None:
    """Prompt, workflow and parameters: artists drag a picture into their host to get them back."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a portrait, Steps: 20")
    info.add_text("workflow", WORKFLOW, zip=True)
    info.add_itxt("prompt", WORKFLOW, "de", "Aufgabe")
    Image.fromarray(picture).save(tmp_path / "a.png", pnginfo=info, dpi=(300, 300))
    if depth == 16:
        added = png.kept_chunks(tmp_path / "a.png")
        (tmp_path / "a.png").write_bytes(png.with_chunks(png.encode(picture.astype(np.uint16) * 257), added))
    photo = read_photo(tmp_path / "a.png")
    assert write_photo(photo, tmp_path / "b.png") == ()
    assert sorted(png.kept_chunks(tmp_path / "b.png")) == sorted(png.kept_chunks(tmp_path / "a.png"))
    if depth == 8:
        with Image.open(tmp_path / "b.png") as image:
            image.load()
            assert image.text == {"parameters": "a portrait, Steps: 20", "workflow": WORKFLOW, "prompt": WORKFLOW}
    for name in ("b.jpg", "b.webp", "b.tif"):
        assert any("parameters, workflow, prompt" in n for n in write_photo(photo, tmp_path / name)), name


def test_text_behind_the_picture_is_found(tmp_path: Path, picture: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    whole, end = file.getvalue()[:-12], file.getvalue()[-12:]
    (tmp_path / "a.png").write_bytes(whole + png.packed((b"tEXt", b"workflow\0{}")) + end)
    write_photo(read_photo(tmp_path / "a.png"), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        assert image.text["workflow"] == "{}"


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


def _rich_jpeg(path: Path, picture: np.ndarray, orientation: int = 1) -> None:
    xmp = XMP.replace(b'Orientation="1"', b'Orientation="%d"' % orientation)
    photoshop = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">L", len(IPTC)) + IPTC + b"\0" * (len(IPTC) % 2)
    extra = b""
    for marker, content in ((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp), (0xED, photoshop)):
        extra += struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
    Image.fromarray(picture).save(path, quality=95, comment="Grüße", extra=extra)


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


def test_xmp_too_large_for_jpeg_is_told(tmp_path: Path, picture: np.ndarray) -> None:
    _rich_jpeg(tmp_path / "a.jpg", picture)
    photo = read_photo(tmp_path / "a.jpg")
    large = re.sub(rb'about=""', b'about="' + b"x" * 70_000 + b'"', XMP)
    photo = replace(photo, metadata=replace(photo.metadata, xmp=large))
    assert any("XMP of more than 64 kB" in note for note in write_photo(photo, tmp_path / "b.jpg"))
    assert write_photo(photo, tmp_path / "b.png") == ()
    assert read_photo(tmp_path / "b.png").metadata.xmp == large


def _heif(picture: Image.Image, path: Path, blob: bytes) -> None:
    heif = pytest.importorskip("pillow_heif")
    if not hasattr(Image.Image, "im"):
        pytest.skip("pillow_heif is for newer Pillows")
    heif.register_heif_opener()
    picture.save(path, format="HEIF", exif=blob, quality=90)


def _jxl(picture: Image.Image, path: Path, blob: bytes) -> None:
    pytest.importorskip("pillow_jxl")
    picture.save(path, exif=blob)


def _pillow(picture: Image.Image, path: Path, blob: bytes) -> None:
    if path.suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    picture.save(path, exif=blob)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("a.jpg", _pillow),
        ("a.png", _pillow),
        ("a.webp", _pillow),
        ("a.avif", _pillow),
        ("a.heic", _heif),
        ("a.jxl", _jxl),
    ],
)
def test_every_format_is_turned_once(tmp_path: Path, name: str, save: Any, orientation: int) -> None:
    upright = np.zeros((48, 80, 3), np.uint8)
    upright[:16, :16] = (240, 200, 60)
    turn = {1: 0, 2: 0, 3: 2, 4: 0, 5: 1, 6: 1, 7: 1, 8: 3}[orientation]
    stored = np.rot90(upright, turn)
    mirrored = {2: stored[:, ::-1], 4: stored[::-1], 5: stored[::-1], 7: np.rot90(upright, 1)[:, ::-1]}
    stored = np.ascontiguousarray(mirrored.get(orientation, stored))
    save(Image.fromarray(stored), tmp_path / name, b"Exif\0\0" + camera(orientation=orientation))
    photo = read_photo(tmp_path / name)
    assert photo.pixels.shape == upright.shape
    assert ((photo.pixels[..., 0] > 120) == (upright[..., 0] > 0)).mean() > 0.98
    write_photo(photo, tmp_path / "b.png")
    back = read_photo(tmp_path / "b.png")
    assert np.array_equal(back.pixels, photo.pixels)
    assert photo.exif
    kept = exif.parse(photo.exif)
    assert kept
    assert exif.orientation(kept) == 1
    if name != "a.avif":  # whose writer, Pillow's, puts the camera data anew
        assert tags(photo.exif)[0x013B].startswith("Jürgen".encode())


def test_tags_that_share_their_bytes_hold_no_more_than_the_file() -> None:
    """4,000 tags of the whole file each would be as many copies of it: 200 MB for this one."""
    count, rest = 4000, 50_000
    rows = b"".join(struct.pack("<HHLL", 0x8000 + tag, 7, rest, 8) for tag in range(count))
    data = header("<") + struct.pack("<H", count) + rows + struct.pack("<L", 0) + bytes(rest)
    (directory,) = directories(data)
    held = sum(len(entry.data) for entry in directory.entries.values())
    assert rest <= held <= len(data)
