"""Fuzz photo reading: damaged images of 26 kinds are each read, or rejected in one line, and those read are written.

    python benchmarks/fuzz_photos.py [--files 10000] [--seed 0] [--limit 20]

Intact files of every kind are made, then damaged by a seeded draw: truncated, bits flipped, bytes overwritten, removed
or doubled, numbers made extreme, parts of two files joined. They are read in a separate process with limits on memory
and on seconds per file. Unhandled are all exceptions but ImageError, messages of more than one line or without the
file's name, crashes, and timeouts. The kind and number of each unhandled file are printed: `--only KIND:NUMBER`
recreates it.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from quantface_core.errors import ImageError
from quantface_core.io.photos import Metadata, Pages, Photo, png, read_pages, tiff, write_pages
from quantface_core.io.photos.ifd import Directory

_MEMORY = 4 << 30  # bytes of address space that reading may use beyond the loaded libraries
_TARGETS = ("a.png", "a.jpg", "a.tif", "a.webp")
_WRITTEN = 7  # one in so many images read is also written: writing is slower


def _ramp() -> np.ndarray:
    y, x = np.mgrid[:40, :56]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=2).astype(np.uint8)


def _saved(form: str, mode: str = "RGB", **settings: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_ramp()).convert(mode).save(file, form, **settings)
    return file.getvalue()


def _animated(form: str, **settings: Any) -> bytes:
    frames = [Image.fromarray(np.roll(_ramp(), 9 * i, 1)) for i in range(3)]
    return _saved_frames(frames, form, **settings)


def _saved_frames(frames: list[Image.Image], form: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    frames[0].save(file, form, save_all=True, append_images=frames[1:], **settings)
    return file.getvalue()


def _ours(name: str, photos: tuple[Photo, ...]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write_pages(Pages(photos), path)
        return path.read_bytes()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    exif.get_ifd(0x8769)[0x9003] = "2026:11:26 10:00:00"
    return exif.tobytes()


def _text_png() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a portrait")
    info.add_text("workflow", "{}" * 99, zip=True)
    return _saved("PNG", pnginfo=info, exif=_exif(), dpi=(300, 300))


def _layout(bits: int, kind: int, planar: bool, photometric: int = 2) -> bytes:
    """A TIFF with one strip per plane, laid out as its tags say: floats, 32 bits, planes, inverted gray."""
    data = _ramp()[..., :1] if photometric < 2 else _ramp()
    values = data / 255 if kind == 3 else data.astype(np.uint64) << (bits - 8)
    values = values.astype(f"<{'f' if kind == 3 else 'u'}{bits // 8}")
    values = np.ascontiguousarray(values.transpose(2, 0, 1)) if planar else values
    height, width, channels = data.shape
    tags = Directory("<")
    planes = channels if planar else 1
    each = values.nbytes // planes
    pairs = [(tiff.WIDTH, width), (tiff.HEIGHT, height), (tiff.COMPRESSION, 1), (tiff.PHOTOMETRIC, photometric)]
    pairs += [(tiff.SAMPLES, channels), (tiff.ROWS, height), (tiff.PLANAR, 2 if planar else 1)]
    for tag, value in pairs:
        tags.put(tag, 4, value)
    tags.put(tiff.BITS, 3, *[bits] * channels)
    tags.put(tiff.FORMAT, 3, *[kind] * channels)
    tags.put(tiff.STRIPS, 4, *[8 + i * each for i in range(planes)])
    tags.put(tiff.STRIP_BYTES, 4, *[each] * planes)
    from quantface_core.io.photos.ifd import header, pack

    place = 8 + values.nbytes
    return header("<", place) + values.tobytes() + pack(tags, place)


def _deep() -> np.ndarray:
    return _ramp().astype(np.uint16) * 257


def kinds() -> dict[str, Callable[[], bytes]]:
    """Functions that make an intact file of each kind."""
    dotted = Photo(_deep(), _deep()[..., 0].copy(), metadata=Metadata(dpi=(300.0, 300.0), xmp=b"<x:xmpmeta/>"))
    return {
        "jpeg": lambda: _saved("JPEG", quality=90),
        "jpeg, progressive": lambda: _saved("JPEG", quality=90, progressive=True),
        "jpeg, gray": lambda: _saved("JPEG", "L"),
        "jpeg, CMYK": lambda: _saved("JPEG", "CMYK"),
        "jpeg, camera data": lambda: _saved("JPEG", exif=_exif(), comment="a comment", dpi=(300, 300)),
        "mpo": lambda: _animated("MPO"),
        "png": lambda: _saved("PNG"),
        "png, palette": lambda: _saved("PNG", "P", transparency=3),
        "png, text": _text_png,
        "png, 16 bits": lambda: png.encode(_deep()),
        "png, 16 bits gray alpha": lambda: png.encode(_deep()[..., :2]),
        "apng": lambda: _animated("PNG", duration=50),
        "webp": lambda: _saved("WEBP", exif=_exif()),
        "webp, moving": lambda: _animated("WEBP", lossless=True, duration=50),
        "tiff, LZW": lambda: _saved("TIFF", compression="tiff_lzw"),
        "tiff, JPEG": lambda: _saved("TIFF", compression="jpeg"),
        "tiff, bits": lambda: _saved("TIFF", "1", compression="group4"),
        "tiff, 16 bits planar": lambda: _layout(16, 1, True),
        "tiff, inverted": lambda: _layout(16, 1, False, photometric=0),
        "tiff, floats": lambda: _layout(32, 3, False),
        "tiff, pages": lambda: _ours("a.tif", (dotted, dotted, Photo(_ramp()))),
        "gif": lambda: _saved("GIF", "P"),
        "gif, moving": lambda: _animated("GIF", duration=50),
        "bmp": lambda: _saved("BMP"),
        "avif": lambda: _saved("AVIF"),
        "jpeg 2000": lambda: _saved("JPEG2000"),
    }


def damaged(whole: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """A file with one kind of damage, or several."""
    data = bytearray(whole)
    for _ in range(int(random.geometric(0.6))):
        size = len(data)
        if size < 8:
            break
        start = int(random.integers(size if random.random() < 0.5 else min(size, 200)))
        length = int(random.integers(1, 40))
        choice = int(random.integers(8))
        if choice == 0:
            del data[max(1, start) :]
        elif choice == 1:
            for i in random.integers(0, size, int(random.integers(1, 9))):
                data[i] ^= 1 << int(random.integers(8))
        elif choice == 2:
            data[start : start + length] = random.bytes(length)
        elif choice == 3:
            del data[start : start + length]
        elif choice == 4:
            data[start:start] = data[start : start + length]
        elif choice == 5:
            extreme = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\1\0")
            data[start : start + 4] = extreme[int(random.integers(5))]
        elif choice == 6:
            data[start:] = other[int(random.integers(len(other))) :]
        else:
            data[start : start + length] = b"\0" * length
    return bytes(data)


def _work(names: list[str], counts: list[int], seed: int, skip: int, pipe: Any) -> None:
    """Read every damaged file from number `skip` on; report each before reading it, and its outcome after."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # where decoders print warnings
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    whole = {name: make() for name, make in kinds().items() if name in names}
    number = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged"
        for name, count in zip(names, counts, strict=True):
            for i in range(count):
                number += 1
                if number <= skip:
                    continue
                random = np.random.default_rng([seed, list(kinds()).index(name), i])
                path.write_bytes(damaged(whole[name], whole[names[int(random.integers(len(names)))]], random))
                pipe.send(("begins", name, i, ""))
                pipe.send(("ends", name, i, _outcome(path, i)))
    pipe.send(("done", "", 0, ""))


def _outcome(path: Path, number: int) -> str:
    try:
        pages = read_pages(path)
    except ImageError as error:
        line = str(error)
        return "refused" if "\n" not in line and line.startswith(str(path)) else f"unhandled: message {line!r:.200}"
    except BaseException as error:
        return f"unhandled: {type(error).__name__} {error}"
    if number % _WRITTEN or pages.photos[0].pixels.size > 1 << 22:
        return "read"
    try:
        write_pages(pages, path.with_name(_TARGETS[number // _WRITTEN % len(_TARGETS)]))
    except BaseException as error:
        return f"unhandled: writing, {type(error).__name__} {error}"
    return "read"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=20, help="seconds per file")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="write this damaged file to ./damaged, and read it")
    arguments = parser.parse_args()
    names = list(kinds())
    if arguments.only:
        name, number = arguments.only.rsplit(":", 1)
        whole = {n: make() for n, make in kinds().items()}
        random = np.random.default_rng([arguments.seed, names.index(name), int(number)])
        Path("damaged").write_bytes(damaged(whole[name], whole[names[int(random.integers(len(names)))]], random))
        print(read_pages(Path("damaged")))
        return 0
    counts = [arguments.files // len(names) + (i < arguments.files % len(names)) for i in range(len(names))]
    tallies, unhandled, slowest = {name: Counter[str]() for name in names}, 0, 0.0
    done, began = 0, time.perf_counter()
    while done < arguments.files:
        here, there = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(
            target=_work, args=(names, counts, arguments.seed, done, there)
        )
        child.start()
        there.close()
        current: tuple[str, int] | None = None
        start = time.perf_counter()
        while True:
            event = None
            try:
                if here.poll(arguments.limit if current else 120):
                    event = here.recv()
            except EOFError:
                pass
            if event and event[0] == "begins":
                current, start = (event[1], event[2]), time.perf_counter()
                continue
            if event and event[0] == "done":
                break
            if event is None and current is None:
                raise SystemExit("the reading process did not start")
            outcome = event[3] if event else "unhandled: timeout" if child.is_alive() else "unhandled: a crash"
            assert current is not None
            slowest = max(slowest, time.perf_counter() - start)
            done += 1
            tallies[current[0]][outcome.split(":")[0]] += 1
            if outcome.startswith("unhandled"):
                unhandled += 1
                print(f"{current[0]}:{current[1]} {outcome}", flush=True)
            current = None
            if event is None:
                break
        child.kill()
        child.join()
    print(f"{'kind':26} read refused unhandled")
    for name, tally in tallies.items():
        print(f"{name:26} {tally['read']:4} {tally['refused']:7} {tally['unhandled']:9}")
    print(f"seed {arguments.seed}, {time.perf_counter() - began:.0f} s, slowest file {slowest:.1f} s")
    print(f"{unhandled} unhandled of {arguments.files:,}")
    return 1 if unhandled else 0


if __name__ == "__main__":
    sys.exit(main())
