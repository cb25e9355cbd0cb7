"""Backups and hosts that a restore refuses, before anything changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.moving import archive
from cli.moving.archive import Manifest
from deployments.room.report import only_supervisor
from deployments.room.restoring import read_begun
from opsdb.errors import UsageError
from tests.integration.cli.moving.hosts import (
    PASSPHRASE,
    Host,
    damaged,
    restored,
)


def test_room_that_is_there_or_runs_and_files_that_cannot_be_trusted_are_refused_and_nothing_changes(
    old: Host, new: Host, backup: Path, passphrase: Path, tmp_path: Path
) -> None:
    by = ("--passphrase-file", str(passphrase))
    before = {path.name for path in old.home.iterdir()}
    line = old.ops("db", "restore", str(backup), *by).err.splitlines()[-1]
    assert "there is a room here already" in line
    assert "--replace" in line
    assert {path.name for path in old.home.iterdir()} == before
    with only_supervisor(old.home):
        assert "the room runs already" in old.ops("db", "restore", str(backup), *by).refused(2)
    other = tmp_path / "other"
    other.write_text("another passphrase of mine")
    other.chmod(0o600)
    assert "the passphrase does not open" in refusal(new, backup, other)
    assert "damaged or cut off" in refusal(new, damaged(backup, tmp_path, -5), passphrase)
    assert "is not a backup of a room" in refusal(new, other, passphrase)
    assert not (new.home / "restoring").exists()
    assert not (new.home / "secrets.json").exists()
    assert not (new.home / "postgres").exists()


def refusal(host: Host, file: Path, passphrase: Path) -> str:
    """The last line of a restore that is refused; a dry run refuses alike."""
    by = ("--passphrase-file", str(passphrase))
    answer, dry = host.ops("db", "restore", str(file), *by), host.ops("db", "restore", str(file), "--dry-run", *by)
    assert (answer.code, dry.code, answer.out) == (2, 2, ""), (answer, dry)
    assert answer.err.splitlines()[-1] == dry.err.splitlines()[-1]
    return answer.err.splitlines()[-1]


@pytest.mark.gate
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_revision": "9999"}, "which this version does not know: it is of a newer room"),
        ({"prefect_version": "99.1.0"}, "holds a database of Prefect 99.1.0"),
        ({"server_version": "99.1"}, "is of PostgreSQL 99.1, and the server here is"),
        ({"format": 2, "more": "than is known"}, "has format 2, and this version reads up to 1"),
        ({"parts": []}, "does not name the parts"),
    ],
)
def test_backup_of_a_newer_room_is_refused_by_name(
    new: Host, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, changes: dict[str, Any], words: str
) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    with backup.open("rb") as file:
        manifest = archive.unpack_archive(file, PASSPHRASE, name="it", to=parts)
    forged = manifest.model_dump(mode="json") | changes
    monkeypatch.setattr(Manifest, "model_dump_json", lambda _self, indent: json.dumps(forged))
    monkeypatch.setattr(archive, "verify_archive", lambda *_args, **_options: manifest)
    newer = tmp_path / "newer.sealed"
    if changes.get("parts") == []:
        manifest.parts.clear()
    files = {part.name: (parts / part.name).open("rb") for part in manifest.parts}
    archive.write_archive(newer, PASSPHRASE, manifest, files)
    for file in files.values():
        file.close()
    monkeypatch.undo()
    with pytest.raises(UsageError, match=words):
        restored(new, newer)
    assert read_begun(new.home) is None
