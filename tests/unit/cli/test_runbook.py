"""`ops runbook`, and what `ops deploy` makes of the team's own runbooks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from cli.deploy import read_files
from cli.runbook import check, new
from deployments.server.declared import deployments_of
from opsdb.kinds.runbook_files import RunbookFileError
from opsdb.settings import load_settings

RUNBOOK = "from flows.engine.runbook import runbook\n{}\n@runbook(deadline_seconds=9)\ndef {}(word: str = 'a'): ...\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That of OPS_RUNBOOKS, with a runbook that can run and one that cannot."""
    monkeypatch.setenv("OPS_HOME", str(tmp_path / ".ops"))
    monkeypatch.setenv("OPS_RUNBOOKS", str(tmp_path / "own"))
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own"
    own.mkdir()
    (own / "fine.py").write_text(RUNBOOK.format("", "fine"))
    (own / "bad.py").write_text(RUNBOOK.format("1 / 0", "bad"))
    yield own
    for name in [name for name in sys.modules if name.startswith("flows.own.files.")]:
        del sys.modules[name]


def test_new_writes_into_the_folder_of_the_room_or_the_one_that_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new("disk_report")
    said = capsys.readouterr().out
    assert (folder / "test_disk_report.py").exists()
    assert "ops.toml" not in said
    new("disk_other", folder=Path("other"))
    assert (folder.parent / "other" / "disk_other.py").exists()
    assert f'runbooks = "{folder.parent}/other" in ops.toml' in " ".join(capsys.readouterr().out.split("\n"))


def test_check_says_what_there_is_and_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunbookFileError, match=rf"^{folder}/bad\.py:2: ZeroDivisionError: division by zero$"):
        check()
    assert f"fine: {folder}/fine.py; word" in capsys.readouterr().out
    check([Path("own/fine.py")], as_json=True)
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["kind"], one["valid"], one["params"][0]["default"]) == ("fine", True, "a")
    with pytest.raises(typer.Exit):
        check(as_json=True)
    assert [one["valid"] for one in json.loads(capsys.readouterr().out)] == [False, True]


def test_what_a_file_prints_is_not_of_the_answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "fine.py").write_text(RUNBOOK.format("print('noise')", "fine"))
    check([folder / "fine.py"], as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["valid"]
    assert err == "noise\n"


def test_check_of_a_file_elsewhere_is_of_the_next_version_of_one_that_is_known(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "fine.py").write_text(RUNBOOK.format("", "fine"))
    check([tmp_path / "fine.py"])
    (folder / "again.py").write_text(RUNBOOK.format("", "fine"))
    with pytest.raises(RunbookFileError, match=r"again\.py: fine: .*own/fine\.py has a runbook of that name"):
        check([folder / "again.py"])


def test_deploy_has_what_can_run_in_each_lane_and_knows_that_not_all_is_read(folder: Path) -> None:
    found = read_files(load_settings())
    assert found.errors == [f"{folder}/bad.py:2: ZeroDivisionError: division by zero"]
    (own,) = [one for one in found.deployments if one.package == "flows.own_runbooks"]
    entries = list(deployments_of(own))
    assert [entry["name"] for entry in entries] == [f"fine-lane-{lane}" for lane in "abcd"]
    assert entries[0]["entrypoint"] == "flows.own_runbooks.fine"
    assert entries[0]["tags"] == ["own", "lane-a", "runbook"]
