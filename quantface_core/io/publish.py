"""Publish a restorer on the Hugging Face Hub: a model card that says how it was made, and the file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ..errors import ModelError, UsageError, one_line
from ..types import LayerFormat
from .checksum import sha256
from .hub import hub_endpoint
from .retry import explained

_CARD = """\
---
license: {licence}
library_name: quantface
pipeline_tag: image-to-image
tags: [face-restoration, quantized, {tag}comfyui]
---

# {title}

{kind} of the {tag_in_words}face restorer `{config}` ({size} x {size} pixels){method}.

| | |
|---|---|
{table}
{evaluation}
## Use

    hf download {repo} {file} --local-dir models
    quantface restore photo.jpg --model models/{file}

In ComfyUI: put the file into `models/quantface`.

## Licence

- This file: **{licence}**.
- Made from: {made_of}
- Right to share: {right}

sha256 of `{file}`: `{checksum}`
"""

_METHOD = """\
, made with
the method of [QuantFace](https://arxiv.org/abs/2506.00820): channels are scaled and rotated,"""
_KEPT = {
    "fisher": "the part of each weight that the image depends on most",
    "svd": "the largest part of each weight",
}
"""What the low-rank branch holds, by the setting `branch`."""


def card(path: Path, repo: str, licence: str | None, may_share: bool, evaluation: Path | None = None) -> str:
    """Return a file's model card as Markdown.

    Raises ModelError; UsageError when its licence is unclear, or `repo` or `evaluation` is unusable.
    """
    from ..nn.swap import quant_layers
    from ..restorer import OneStepRestorer
    from .checkpoint import load_restorer, read_notes

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise UsageError(f"repo {repo}: expected USER/NAME")
    restorer = load_restorer(path)  # complete and undamaged, or an error
    config, one_step = restorer.config, isinstance(restorer, OneStepRestorer)
    notes = read_notes(path)
    noted = notes.get("licence", "")
    unclear = not noted or "not stated" in noted
    if unclear and not may_share:
        raise UsageError(
            f"{path} was made from files whose licence is: {noted or 'not noted'}. Publish it only with the right to, "
            "which you state by may_share: ask the authors"
        )
    given = licence or (noted if not unclear else "")
    if not re.fullmatch(r"[A-Za-z0-9.+-]+", given):
        raise UsageError(f"its noted licence is {noted!r}: name one to publish it under, such as apache-2.0")
    layers = {name: layer.format for name, layer in quant_layers(restorer).items()}
    return _CARD.format(
        licence=given.lower(),
        title=repo.partition("/")[2],
        kind="A low-bit version" if layers else "A full-precision version",
        tag="one-step-diffusion, " if one_step else "",
        tag_in_words="one-step diffusion " if one_step else "",
        config=config.name,
        size=config.image_size,
        method=_method(path, layers, notes),
        table=_table(path, layers, notes),
        evaluation=_evaluation(evaluation) if evaluation else "",
        repo=repo,
        file=path.name,
        made_of=noted or "not noted",
        right="claimed by the publisher" if unclear else "granted by that licence",
        checksum=sha256(path),
    )


def _evaluation(folder: Path) -> str:
    """The table that `quantface evaluate` wrote to its output folder, as a section."""
    try:
        return f"\n## Evaluation\n\n{(folder / 'table.md').read_text('utf-8').strip()}\n"
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"evaluation {folder}: no table.md there: name the folder of an evaluation") from None


def _method(path: Path, layers: Mapping[str, LayerFormat], notes: Mapping[str, str]) -> str:
    """How the low-bit layers were made, as the end of a sentence; empty without such layers. Raises ModelError."""
    from ..quant.model_file import read_json

    if not layers:
        return ""
    if not any(layer.rank for layer in layers.values()):
        return f"{_METHOD}\nand weights and activations are quantized"
    settings = read_json(path, notes.get("settings", "{}"), "note on settings")
    chosen = str(settings.get("branch")) if isinstance(settings, dict) else ""
    branch = f"a low-rank branch\nkeeps {_KEPT.get(chosen, 'a part of each weight')}"
    return f"{_METHOD} {branch},\nand the rest of the weights and the activations are quantized"


def _table(path: Path, layers: Mapping[str, LayerFormat], notes: Mapping[str, str]) -> str:
    modules = Counter((name.split(".")[0], str(layer.bits)) for name, layer in layers.items())
    rows = [("file", f"{path.stat().st_size / 1e6:.1f} MB")]
    rows += [
        (f"{module}, {bits}", f"{count} layer{'s' * (count > 1)}") for (module, bits), count in sorted(modules.items())
    ]
    rows += [(key, notes[key]) for key in ("recipe", "quantface") if key in notes]
    return "\n".join(f"| {name} | {value} |" for name, value in rows)


def publish(path: Path, repo: str, text: str | None, private: bool = False) -> str:
    """Upload the file, and its card `text` as README.md, in one commit; return the repository's address.

    Without `text` the README.md there stays. Raises UsageError for a card that the Hub refuses, and for a public
    repository where `private` is wanted; ModelError.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=hub_endpoint())
    files = [CommitOperationAdd(path.name, str(path))]
    if text is not None:
        files.append(CommitOperationAdd("README.md", text.encode()))
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        # Of a repository that exists the Hub ignores what is asked.
        exposed = private and not api.model_info(repo).private
        if not exposed:
            api.create_commit(repo, files, commit_message=f"Add {path.name}")
    except Exception as error:  # the client raises its own, its transport's and the system's errors
        # The card's header is checked first, and one word of it is the user's.
        if isinstance(error, ValueError) and "README.md" in str(error):
            reason = one_line(ValueError(" ".join(str(error).split())))
            raise UsageError(f"the Hub refuses the card, name a licence that it knows: {reason}") from error
        raise ModelError(explained(error, f"upload {path.name} by hand at https://huggingface.co/{repo}")) from error
    if exposed:
        raise UsageError(f"{repo} exists and is public: make it private on its page first, or name another")
    return str(address)
