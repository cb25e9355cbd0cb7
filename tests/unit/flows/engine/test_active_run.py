"""What voids the steps of an earlier attempt when their runbook has changed: their names and commands, not its text."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flows.engine.active_run import ActiveRun, activated
from flows.engine.dry_run import dry_run
from flows.engine.runbook import version_of
from opsdb.errors import PreflightError
from opsdb.record.journal import Entry
from opsdb.runs.kept_steps import KeptStep
from opsdb.settings import load_settings

SOURCE = """
from pathlib import Path

from flows.engine.runbook import runbook
from flows.engine.step import action, step


@runbook(deadline_seconds=60)
def example(done: str) -> list[str]:
    action("look", lambda: None, about="look around")
    said = step("build", "make build", timeout=5).stdout
    action("deploy", lambda: Path(done).touch(), about="deploy it")
    return [said]
"""
_numbers = itertools.count()


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Make a runbook of a module's source."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def load(source: str) -> Any:
        names.append(f"changed_runbook_{next(_numbers)}")
        (tmp_path / f"{names[-1]}.py").write_text(source)
        importlib.invalidate_caches()
        return importlib.import_module(names[-1]).example

    yield load
    for name in names:
        sys.modules.pop(name)


def go_on(before: Any, after: Any, done: Path) -> tuple[Any, list[Entry]]:
    """What the runbook gives, and records, in an attempt that keeps all steps of one by the runbook before."""
    entries: list[Entry] = []
    steps = dry_run(before, {"done": str(done)}, settings=load_settings()).steps
    kept = [
        KeptStep(
            index=one.index,
            name=one.name,
            command=one.command,
            timeout_seconds=one.timeout_seconds,
            definition=version_of(before),
            exit_code=0,
            result={"stdout": "built"} if one.name == "build" else None,
        )
        for one in steps
    ]
    run = ActiveRun(id=uuid4(), attempt=2, settings=load_settings(), record=entries.append, in_lane=False, kept=kept)
    with activated(run):
        return after.fn.__wrapped__(str(done)), entries


def test_comment_in_a_runbooks_module_voids_no_step(load: Callable[[str], Any], tmp_path: Path) -> None:
    before, after = load(SOURCE), load(f"# a comment\n{SOURCE}")
    assert version_of(after) == version_of(before) == "1"
    result, entries = go_on(before, after, tmp_path / "done")
    assert result == ["built"]
    assert [(entry["op"], entry["name"]) for entry in entries] == [
        ("step_skipped", "look"),
        ("step_skipped", "build"),
        ("step_skipped", "deploy"),
    ]
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("make build", "make all", "the command of step build has changed since an earlier .* It was: make build. Not"),
        (
            'action("deploy"',
            'action("look", print, about="look")\n    action("deploy"',
            "step look stands where .* deploy:",
        ),
    ],
)
def test_changed_step_ends_the_attempt_before_anything_is_done(
    old: str, new: str, told: str, load: Callable[[str], Any], tmp_path: Path
) -> None:
    after = load(SOURCE.replace(old, new))
    with pytest.raises(PreflightError, match=told) as refused:
        go_on(load(SOURCE), after, tmp_path / "done")
    assert "`ops retry" in str(refused.value)
    assert not (tmp_path / "done").exists()


def test_what_a_runbook_does_after_a_changed_step_is_not_done_either(
    load: Callable[[str], Any], tmp_path: Path
) -> None:
    careless = SOURCE.replace(
        '    said = step("build", "make build", timeout=5).stdout',
        "    said = ''\n    try:\n        step('build', 'make all', timeout=5)\n    except Exception:\n        pass",
    )
    with pytest.raises(PreflightError, match="step deploy stands where an earlier attempt did step build"):
        go_on(load(SOURCE), load(careless), tmp_path / "done")
    assert not (tmp_path / "done").exists()


def test_version_is_said_by_the_runbook(load: Callable[[str], Any]) -> None:
    assert version_of(load(SOURCE.replace("=60", '=60, version="2"'))) == "2"
