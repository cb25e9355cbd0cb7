"""The room runs with what `make up` installs: nothing of it imports what developers have beside that."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.support.documents import ROOT

PACKAGES = ("blocks", "cli", "deployments", "exporter", "flows", "opsdb")
NOT_OF_THE_ROOM = ROOT / "exporter" / "dashboards"
"""Writes Grafana's files when the code of a dashboard changes: `make dashboards`, for developers."""

FOR_DEVELOPERS = {ROOT / "flows" / "testing.py"}
"""A plugin of pytest: where pytest is not installed, nothing imports it."""


def named(requirements: list[str]) -> set[str]:
    """The distributions of some requirements, as they are spelled in lists of what is installed."""
    names = {re.split(r"[\[<>=! ]", one)[0].lower() for one in requirements}
    return {re.sub(r"[-_.]+", "-", name) for name in names}


def imported(path: Path) -> Iterator[str]:
    """The top-level modules that a file imports when it runs."""
    tree = ast.parse(path.read_text())
    only_for_types = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    ]
    skipped = {id(inner) for node in only_for_types for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_room_imports_nothing_that_only_developers_have(package: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    of_developers = named(project["optional-dependencies"]["dev"]) - named(project["dependencies"])
    of_module = {
        module: {re.sub(r"[-_.]+", "-", one.lower()) for one in found}
        for module, found in packages_distributions().items()
    }
    wrong = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in (ROOT / package).rglob("*.py")
        if NOT_OF_THE_ROOM not in path.parents and path not in FOR_DEVELOPERS
        for module in imported(path)
        if of_module.get(module, set()) & of_developers
    }
    assert not wrong


def test_a_module_of_developers_would_be_found() -> None:
    assert "hypothesis" in set(imported(ROOT / "tests" / "conftest.py"))


def test_nothing_of_the_room_imports_what_is_for_developers() -> None:
    wrong = [
        path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "flows.testing" in path.read_text()
    ]
    assert not wrong
