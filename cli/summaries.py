"""What each word after `ops` is for, read out of the file of the command: importing all of them takes a second."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Summary:
    """A word as `ops --help` shows it: its text, as long as it is written, and the panel that it stands in."""

    word: str
    text: str
    panel: str


def read_summaries(files: Mapping[str, Iterable[str]]) -> list[Summary]:
    """The summaries of all words, by the module that has them, in that order.

    A word is a function, with or without `_` after its name, whose docstring says what it does, or a `typer.Typer` that
    is given its help.
    """
    found = []
    for module, words in files.items():
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_bytes())
        texts = _texts(tree)
        found += [Summary(word, texts[word], _panel(tree)) for word in words]
    return found


def _texts(tree: ast.Module) -> dict[str, str]:
    texts, constants = {}, {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and (doc := ast.get_docstring(node)):
            texts[node.name.rstrip("_")] = doc
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = node.value
    for made in _register(tree):
        if isinstance(made, ast.Assign) and isinstance(made.targets[0], ast.Name) and isinstance(made.value, ast.Call):
            given = next((keyword.value for keyword in made.value.keywords if keyword.arg == "help"), None)
            value = constants.get(given.id) if isinstance(given, ast.Name) else given
            if value is not None:
                texts[made.targets[0].id] = inspect.cleandoc(str(ast.literal_eval(value)))
    return texts


def _panel(tree: ast.Module) -> str:
    panels = {
        keyword.value.value
        for node in _register(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "rich_help_panel" and isinstance(keyword.value, ast.Constant)
    }
    return str(panels.pop()) if panels else ""


def _register(tree: ast.Module) -> Iterator[ast.AST]:
    """What stands in the function that adds the words."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "register":
            yield from ast.walk(node)
