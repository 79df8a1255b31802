"""What nodes may say: the library's messages are shown by them, too."""

from __future__ import annotations

import ast
import re

from tests.nodes.conftest import ROOT


def test_messages_speak_of_no_command() -> None:
    """The library's, too: nodes show them. They name what a caller passes, not a command's options."""
    whoever_builds = "is not built yet: run `quantface build "
    commands = re.compile(r"`quantface|(^|\W)--[a-z]|\bthe command\b|QUANTFACE_[A-Z]+|(install|update) quantface")
    core = ROOT / "quantface_core"
    own = {*core.glob("cli/*.py"), core / "io/publish.py"}  # the latter for its model card
    sources = [p for p in core.rglob("*.py") if p not in own]
    assert len(sources) > 60
    for path in [*sources, *(ROOT / "nodes").glob("*.py")]:
        tree = ast.parse(path.read_text("utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                said = node.value if " " in node.value else ""  # a sentence, not a name
                assert whoever_builds in said or not commands.search(said), f"{path}: {said}"
