"""A runbook to begin with, and its test, written into a folder."""

from __future__ import annotations

import ast
import importlib.util
import keyword
import re
from pathlib import Path

from flows.own.catalogue import taken_by
from opsdb.errors import UsageError
from opsdb.kinds.runbook_files import runbook_files
from opsdb.kinds.template_files import KIND
from opsdb.settings import Settings

_RUNBOOK = '''\
"""The runbook `NAME`."""

from typing import Annotated, Any

from pydantic import Field

from blocks.form_words import InWords
from flows.engine.runbook import runbook
from flows.engine.step import step

Folder = Annotated[
    str, Field(pattern=r"^/[A-Za-z0-9_./-]*$"), InWords("an absolute path: letters, digits, _ . / and -")
]


@runbook(deadline_seconds=60, subject="${params.folder} · NAME")
def NAME(folder: Folder = "/var") -> dict[str, Any]:
    """Say how full the disk of a folder is, and how many entries the folder has.

    **What it changes:** nothing.

    Args:
        folder: Folder that is looked at.
    """
    disk = step("disk", 'df --output=pcent "$FOLDER" | tail --lines=1', timeout=10, env={"FOLDER": folder})
    count = step("count", 'ls --almost-all "$FOLDER" | wc --lines', timeout=10, env={"FOLDER": folder})
    return {"used": (disk.stdout or "").strip(), "entries": (count.stdout or "").strip()}
'''
_TEST = '''\
"""Tests of NAME, which need no room: `pytest` in this folder runs them."""

import pytest

from opsdb.errors import UsageError


def test_both_steps_succeed(run_runbook, tmp_path):
    (tmp_path / "file").touch()
    run = run_runbook("NAME", folder=str(tmp_path))
    assert run.status == "succeeded", run.error
    assert [(step.name, step.status) for step in run.steps] == [("disk", "succeeded"), ("count", "succeeded")]
    assert run.result["entries"] == "1"


def test_df_is_asked_about_the_folder(run_runbook, stand_in, tmp_path):
    df = stand_in("df", "echo Use%; echo ' 42%'")
    run = run_runbook("NAME", folder=str(tmp_path))
    assert df.calls == [["--output=pcent", str(tmp_path)]]
    assert run.result["used"] == "42%"


def test_nothing_is_counted_after_a_failure(run_runbook, stand_in):
    stand_in("df", "exit 3")
    run = run_runbook("NAME")
    assert run.status == "failed"
    assert [(step.name, step.exit_code) for step in run.steps] == [("disk", 3)]


@pytest.mark.parametrize("folder", ["var", "/var/a b", "/$(id)"])
def test_what_is_no_path_is_refused(run_runbook, folder):
    with pytest.raises(UsageError, match="an absolute path"):
        run_runbook("NAME", folder=folder)
'''


_USED = {node.id for node in ast.walk(ast.parse(_RUNBOOK)) if isinstance(node, ast.Name)}


def write_draft(name: str, folder: Path, settings: Settings) -> tuple[Path, Path]:
    """Write `NAME.py` and `test_NAME.py`, and return their paths. The folder is made if it is not there.

    Raises UsageError for a name that cannot be a runbook's or is taken, and for a file that is there or cannot be
    written.
    """
    _check_name(name, settings)
    paths = folder / f"{name}.py", folder / f"test_{name}.py"
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
        if there := [path for path in paths if path.exists()]:
            raise UsageError(f"{there[0]} exists already. Hint: choose another NAME, or move the file away")
        for path, text in zip(paths, (_RUNBOOK, _TEST), strict=True):
            with path.open("x", encoding="utf-8") as file:
                file.write(text.replace("NAME", name))
    except OSError as error:
        raise UsageError(f"{error.filename or folder} cannot be written: {error.strerror}") from error
    return paths


def _check_name(name: str, settings: Settings) -> None:
    if not re.fullmatch(KIND, name) or keyword.iskeyword(name) or name.startswith("test_") or name == "conftest":
        raise UsageError(
            f"NAME: {name!r} cannot be the name of a runbook. Hint: lower-case letters, digits and _, a letter first, "
            "no word of Python, and not `test_` at its start"
        )
    if name in _USED:
        raise UsageError(f"NAME: {name} is a name that the draft itself uses. Hint: choose another")
    if taken := taken_by(name, settings, files=runbook_files(settings)):
        raise UsageError(f"NAME: {name}: {taken}. Hint: choose another")
    if importlib.util.find_spec(name) is not None:
        raise UsageError(
            f"NAME: {name} is a module that is installed: pytest would import yours for it. Hint: choose another"
        )
