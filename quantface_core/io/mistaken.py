"""What a file is that was given for a model and is none."""

from __future__ import annotations

from pathlib import Path

_START = 512  # bytes


def mistaken_for_model(path: Path) -> str | None:
    """A line about a file that is no safetensors file, told by its first bytes; None when nothing is known of it."""
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError:
        return None
    text = start.lstrip().lower()
    if not start:
        return "the file is empty: download it again"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the model itself: run `git lfs pull`, or download the file from its page"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not a model: the download gave the page about it; download the file itself"
    if start.startswith((b"PK\3\4", b"\x80\2", b"\x80\3", b"\x80\4")):
        return _pickle(path)
    if start.startswith(b"GGUF"):
        return "a GGUF file, not safetensors"
    if path.suffix.lower() == ".onnx":
        return "an ONNX network, as GPEN comes: only PyTorch's files of GFPGAN, RestoreFormer and CodeFormer are read"
    return None


def _pickle(path: Path) -> str:
    if "GFPGANv1.pth" in path.name:
        return "GFPGAN's first release, which needs CUDA operations of its own: take GFPGANv1.3.pth or GFPGANv1.4.pth"
    return (
        "a pickle of PyTorch's (.pth, .ckpt) that holds no face restorer known here (GFPGAN, RestoreFormer, "
        "CodeFormer), or is damaged; OSDFace is built from its authors' files by its name"
    )
