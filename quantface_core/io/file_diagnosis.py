"""Say what a file is, by its first bytes; above all one that was given as a model or an image but is not one."""

from __future__ import annotations

from pathlib import Path

_START = 512  # bytes


def is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors, whatever its name: a header's length, then its JSON. Raises OSError."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def diagnose_download(path: Path) -> str | None:
    """One line on a model's file that is no model because its download failed; None when nothing shows that."""
    start = _start(path)
    return None if start is None else _failed_download(start, "model")


def diagnose_model_file(path: Path) -> str | None:
    """One line on a file that is not safetensors, judged by its first bytes; None when nothing is known about it."""
    if path.is_dir():
        return "a folder: give the model's file in it"
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
        return "an ONNX network, such as GPEN: only PyTorch files of GFPGAN, RestoreFormer and CodeFormer are supported"
    return None


def diagnose_image_file(path: Path) -> str | None:
    """The same for a file that no image decoder recognises."""
    start = _start(path)
    if start is None:
        return None
    if b"<svg" in start.lower():
        return "a drawing (SVG), not a photo: export it as PNG"
    if start.startswith((b"%PDF", b"%!PS")):
        return "a document (PDF or PostScript), not a photo: export its image as PNG or TIFF"
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
        return f"a web page, not a {wanted}: the page about it was saved; download the file itself"
    return None


def _pickle(path: Path) -> str:
    if "GFPGANv1.pth" in path.name:
        return "GFPGAN's first release, which needs its own CUDA kernels: use GFPGANv1.3.pth or GFPGANv1.4.pth"
    return (
        "a PyTorch pickle (.pth, .ckpt) that is damaged or holds no supported face restorer (GFPGAN, RestoreFormer, "
        "CodeFormer); for OSDFace give the name osdface, which is built from its authors' files"
    )
