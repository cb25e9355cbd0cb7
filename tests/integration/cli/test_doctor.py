"""What `ops doctor` says of the programs of PostgreSQL, with a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.doctor.host import check_pg_dump
from deployments.room.postgres import PROGRAMS
from opsdb.settings import Settings


def test_doctor_names_the_programs_and_that_they_restore_into_the_server(settings: Settings) -> None:
    (found,) = check_pg_dump(settings.model_copy(update={"pg_bin": PROGRAMS}))
    assert found.ok
    assert found.subject == "pg_dump"
    assert f"in {PROGRAMS}; restores into the server of version 18" in found.found


@pytest.mark.parametrize("program", ["pg_dump", "pg_restore"])
def test_doctor_says_why_a_backup_could_not_be_restored(settings: Settings, tmp_path: Path, program: str) -> None:
    for name in ("pg_dump", "pg_restore", "pg_dumpall"):
        (tmp_path / name).symlink_to(PROGRAMS / name)
    real = tmp_path / program
    real.unlink()
    real.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec {PROGRAMS / program} --version\necho no such library >&2; exit 1\n'
    )
    real.chmod(0o755)
    (found,) = check_pg_dump(settings.model_copy(update={"pg_bin": tmp_path}))
    assert not found.ok
    assert "a backup could not be restored into this server, PostgreSQL 18" in found.found
    assert "no such library" in found.found
