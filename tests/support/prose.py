"""The prose of the repository: strings, docstrings and comments of its packages, and paragraphs of its pages."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.documents import ROOT

PACKAGES = ("cli", "opsdb", "flows", "blocks", "deployments", "exporter")


class Passage(NamedTuple):
    """A piece of prose: its file, the line where it begins, and its text with single blanks."""

    path: Path
    line: int
    text: str


def read_prose() -> Iterator[Passage]:
    """Every passage that a reader of the project can meet, without the history of the schema."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                yield from read_module(path, path.read_text())
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))):
        yield from read_page(path, path.read_text())


def read_module(path: Path, source: str) -> Iterator[Passage]:
    """String literals, docstrings among them, and blocks of comments; values inside f-strings read as `{}`."""
    tree = ast.parse(source)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield _passage(path, node.lineno, "".join(str(part) for part in parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield _passage(path, node.lineno, node.value)
    yield from _comments(path, source)


def _comments(path: Path, source: str) -> Iterator[Passage]:
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if block and line != last + 1:
            yield _passage(path, first, " ".join(block))
            block = []
        first = first if block else line
        last = line
        block.append(token.string.lstrip("# "))
    if block:
        yield _passage(path, first, " ".join(block))


def read_page(path: Path, text: str) -> Iterator[Passage]:
    """Paragraphs, list items and rows of a page, and the blocks of code in it."""
    first, lines = 1, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if lines and (not line.strip() or re.match(r"\s*(?:[-*|#]|\d+\.|```)", line)):
            yield _passage(path, first, " ".join(lines))
            lines = []
        if line.strip():
            first = first if lines else number
            lines.append(line)


def _passage(path: Path, line: int, text: str) -> Passage:
    return Passage(path.relative_to(ROOT), line, " ".join(text.split()))
