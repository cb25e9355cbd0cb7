"""`ops db backup`: what it writes, leaves and refuses."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.moving.old_backups import new_name
from tests.integration.cli.moving.hosts import (
    Host,
)
from tests.support.waiting import wait_for


def test_folder_keeps_as_many_backups_as_was_said(old: Host, passphrase: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    by = ("--passphrase-file", str(passphrase))
    made = json.loads(old.ops("db", "backup", "--to", str(folder), "--keep", "1", "--json", *by).fine())
    earlier = Path(made["file"]).rename(folder / re.sub(r"\d{8}T", "20260101T", new_name()))
    answer = old.ops("db", "backup", "--to", str(folder), "--keep", "1", *by)
    assert f"Deleted: {earlier}" in answer.fine()
    assert len(list(folder.iterdir())) == 1
    refused = old.ops("db", "backup", "--to", str(folder / "one.sealed"), "--keep", "1", *by)
    assert (refused.code, "is one file. Hint: name a folder" in refused.err) == (2, True)


@pytest.mark.gate
def test_backup_overwrites_nothing_and_a_name_that_cannot_be_is_refused(
    old: Host, backup: Path, passphrase: Path, tmp_path: Path
) -> None:
    by = ("--passphrase-file", str(passphrase))
    assert "already exists" in old.ops("db", "backup", "--to", str(backup), *by).refused(2)
    assert "there is no folder" in old.ops("db", "backup", "--to", str(tmp_path / "no" / "where"), *by).refused(2)
    assert "there is no folder" in old.ops("db", "backup", "--to", str(tmp_path / "nowhere"), *by).refused(2)
    assert not (tmp_path / "nowhere").exists()
    assert "the passphrase is missing" in old.ops("db", "backup", "--to", str(tmp_path / "x.sealed")).refused(2)
    assert "never started" in Host(tmp_path / "none").ops("db", "backup", "--to", str(tmp_path), *by).refused(3)
    assert "never started" in Host(tmp_path / "none").ops("db", "backup", *by).refused(3)
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.gate
def test_killed_backup_leaves_no_file_that_looks_like_one(old: Host, passphrase: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli", "db", "backup", "--to", str(tmp_path), "--passphrase-file", str(passphrase)]
    with subprocess.Popen(command, env=old.env, cwd=tmp_path) as process:
        wait_for(lambda: any(tmp_path.iterdir()), seconds=60, what="the file is written")
        process.send_signal(signal.SIGKILL)
    assert all(path.name.startswith(".") and path.suffix == ".partial" for path in tmp_path.iterdir())
    assert not any("Temporary" in path.name or path.name.startswith("tmp") for path in old.home.iterdir())
