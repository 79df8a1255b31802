"""What a file is that was given for a model or a picture and is none."""

from __future__ import annotations

from pathlib import Path

_START = 512  # bytes


def diagnose_model_file(path: Path) -> str | None:
    """A line about a file that is no safetensors file, told by its first bytes; None when nothing is known of it."""
    start = _start(path)
    if start is None:
        return None
    if failed := _failed_download(start, "model"):
        return failed
    if start.startswith((b"PK\3\4", b"\x80\2", b"\x80\3", b"\x80\4")):
        return _pickle(path)
    if start.startswith(b"GGUF"):
        return "a GGUF file, not safetensors"
    if path.suffix.lower() == ".onnx":
        return "an ONNX network, as GPEN comes: only PyTorch's files of GFPGAN, RestoreFormer and CodeFormer are read"
    return None


def diagnose_image_file(path: Path) -> str | None:
    """The same of a file that no decoder knows."""
    start = _start(path)
    if start is None:
        return None
    if b"<svg" in start.lower():
        return "a drawing (SVG), not a photo: export it as PNG"
    if start.startswith((b"%PDF", b"%!PS")):
        return "a document (PDF or PostScript), not a photo: export its picture as PNG or TIFF"
    return _failed_download(start, "picture")


def _start(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_START)
    except OSError:
        return None


def _failed_download(start: bytes, wanted: str) -> str | None:
    text = start.lstrip().lower()
    if not start:
        return "the file is empty: download it again"
    if text.startswith(b"version https://git-lfs"):
        return f"a Git LFS pointer, not the {wanted} itself: run `git lfs pull`, or download the file from its page"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"a web page, not a {wanted}: the download gave the page about it; download the file itself"
    return None


def _pickle(path: Path) -> str:
    if "GFPGANv1.pth" in path.name:
        return "GFPGAN's first release, which needs CUDA operations of its own: take GFPGANv1.3.pth or GFPGANv1.4.pth"
    return (
        "a pickle of PyTorch's (.pth, .ckpt) that holds no face restorer known here (GFPGAN, RestoreFormer, "
        "CodeFormer), or is damaged; OSDFace is built from its authors' files by its name"
    )
