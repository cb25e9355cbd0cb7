"""A team's own runbook: the page that leads to it is followed to the run, and a broken neighbour is named."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk
from tests.support.documents import FENCE, ROOT, shell_lines

PAGE = (ROOT / "docs" / "howto" / "first-runbook.md").read_text()
KIND = "disk_report"


@pytest.fixture
def folder(desk: Desk) -> Iterator[Path]:
    """The room's folder of own runbooks, empty before and after."""
    folder = Path(desk.env["OPS_RUNBOOKS"])
    assert list(folder.iterdir()) == []
    yield folder
    for file in folder.glob("*.py"):
        file.unlink()
    assert f"{KIND}/{KIND}-lane-a removed: its runbook is gone" in desk.ops("deploy", timeout=300).fine()


def test_page_leads_to_a_run_and_a_broken_neighbour_is_named(desk: Desk, api: Api, folder: Path) -> None:
    setting = next(tomllib.loads(text) for language, text in FENCE.findall(PAGE) if language == "toml")
    assert (desk.home / setting["runbooks"]).resolve() == folder.resolve()
    said = {line: follow(desk, line) for line in shell_lines(PAGE)}
    assert [shlex.split(line)[0] for line in said] == ["ops", "pytest", *["ops"] * 5]
    (code,) = [text for language, text in FENCE.findall(PAGE) if language == "python"]
    assert code in (folder / f"{KIND}.py").read_text()
    assert "6 passed" in said["pytest runbooks"]
    assert f"own runbooks: {KIND}" in said["ops deploy"]
    assert f"from {folder}/{KIND}.py" in said[f"ops runbooks {KIND}"]
    run = desk.json("show", "last")
    assert (run["kind"], run["status"], run["name"]) == (KIND, "succeeded", f"/var · {KIND}")
    assert [(step["name"], step["status"]) for step in run["steps"]] == [("disk", "succeeded"), ("count", "succeeded")]
    form = api.deployment(f"{KIND}/{KIND}-lane-c")
    assert form["tags"] == ["own", "lane-c", "runbook"]
    assert form["parameter_openapi_schema"]["properties"]["folder"]["errorMessage"].startswith("an absolute path")
    assert "an absolute path" in desk.ops("run", KIND, "-p", "folder=var").refused(2)

    (folder / "broken_one.py").write_text(code_of("broken_one", above="1 / 0"))
    (folder / "leaves.py").write_text(code_of("leaves", above="raise SystemExit"))
    mine = folder / f"{KIND}.py"
    mine.write_text(mine.read_text().replace("wc --lines", "wc --lines | cat"))
    answer = desk.ops("deploy", timeout=300)
    assert answer.code == 2
    told = "".join(answer.err.split("\n"))
    assert f"{folder}/broken_one.py:2: ZeroDivisionError: division by zero" in told
    assert f"{folder}/leaves.py:2: ends the process when it is imported" in told
    assert "Traceback" not in answer.err
    changed = desk.run(KIND, "--lane", "B")
    assert changed["status"] == "succeeded"
    assert changed["steps"][1]["command"].endswith("| cat")
    log = (desk.home / "log" / "worker.log").read_text()
    assert f"runbook broken_one could not be loaded: {folder}/broken_one.py:2: ZeroDivisionError" in log


def follow(desk: Desk, line: str) -> str:
    """What a command of the page prints. It must end well."""
    program, *words = shlex.split(line)
    if program == "ops":
        return desk.ops(*words, timeout=300).fine()
    argv: list[Any] = [sys.executable, "-m", program, *words]
    return subprocess.run(argv, env=desk.env, cwd=desk.home.parent, capture_output=True, text=True, check=True).stdout


def code_of(kind: str, *, above: str) -> str:
    head = "from flows.engine.runbook import runbook"
    return f"{head}\n{above}\n@runbook(deadline_seconds=9)\ndef {kind}() -> None: ...\n"
