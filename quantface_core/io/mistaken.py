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
        return (
            "a pickle of PyTorch's (.pth, .ckpt), not safetensors: only OSDFace is built from such files, by its name"
        )
    if start.startswith(b"GGUF"):
        return "a GGUF file, not safetensors"
    return None
