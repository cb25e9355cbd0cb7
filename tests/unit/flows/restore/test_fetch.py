"""A backup that is fetched: by what it is known, and what is never removed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from pydantic import TypeAdapter, ValidationError

from blocks.target_folder import FolderStore
from flows.backup.folder import Folder
from flows.backup.keyring import Keyring
from flows.backup.parameters import BackupFolder
from flows.engine.active_run import ActiveRun, activated
from flows.engine.step import StepOutput
from flows.offsite.target import Target
from flows.restore import restore as restoring
from flows.restore.fetch import Fetched
from flows.restore.ready import Ready
from flows.restore.restore import restored
from opsdb.settings import Settings
from tests.support.backups import NOW, make_backup


def test_folder_of_an_operator_is_not_removed_whatever_it_is_called(tmp_path: Path) -> None:
    run = ActiveRun(uuid4(), 1, Settings(), lambda _: None, in_lane=False)
    folder = tmp_path / f".fetched-{run.id}"
    folder.mkdir()
    dump = make_backup(folder, "odoo", NOW)
    (backup,) = Folder(folder).backups("odoo")
    with (
        activated(run),
        Fetched(Target("far", "room", FolderStore(tmp_path), Keyring(tmp_path)), backup, Folder(tmp_path)) as fetched,
    ):
        assert fetched.path == folder  # of that very run, which did not make it
    assert dump.exists()


def test_folder_with_the_name_of_one_that_is_removed_is_refused() -> None:
    folders = TypeAdapter(BackupFolder)
    assert folders.validate_python("/srv/.fetched") == "/srv/.fetched"
    for path in (f"/srv/.fetched-{uuid4()}", f"/srv/.fetched-{uuid4()}/", f"/srv/.fetched-{uuid4()}/deeper"):
        with pytest.raises(ValidationError, match="is removed with the run that fetched a backup"):
            folders.validate_python(path)


def test_sums_of_another_backup_are_never_taken_for_those_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_backup(tmp_path, "odoo", NOW)
    (backup,) = Folder(tmp_path).backups("odoo")
    assert backup.manifest is not None
    steps: dict[str, dict[str, Any]] = {}

    def step(name: str, _command: str, **other: Any) -> StepOutput:
        steps[name] = other
        return StepOutput(name, "")

    monkeypatch.setattr(restoring, "step", step)
    monkeypatch.setattr(restoring, "action", lambda *_, **__: None)
    monkeypatch.setattr(restoring, "Scratch", lambda *_, **__: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(restoring, "_restored_into", lambda *_, **__: None)
    programs: Any = None
    ready = Ready(backup, backup.manifest, programs, Folder(tmp_path), target=None, server=None)
    run = ActiveRun(uuid4(), 1, Settings(), lambda _: None, in_lane=False)
    with activated(run), restored(ready):
        pass
    assert steps["checksum"]["must_run_again"]
