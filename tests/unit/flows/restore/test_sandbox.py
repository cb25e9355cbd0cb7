"""Which server a drill runs in, without starting one."""

from __future__ import annotations

from pathlib import Path

from deployments.room.postgres import PROGRAMS
from flows.backup.programs import find_programs
from flows.restore.sandbox import server_programs


def beside(folder: Path, *, runs: bool) -> Path:
    """The embedded client programs, and a server's beside them."""
    for name in ("pg_dump", "pg_restore", "pg_dumpall"):
        (folder / name).symlink_to(PROGRAMS / name)
    for name in ("postgres", "initdb"):
        said = f"echo '{name} (PostgreSQL) 18.1'" if runs else "echo 'no such library' >&2; exit 127"
        (folder / name).write_text(f"#!/bin/sh\n{said}\n")
        (folder / name).chmod(0o755)
    return folder


def test_server_beside_pg_restore_is_taken(tmp_path: Path) -> None:
    programs = find_programs(beside(tmp_path, runs=True), server_version="18.1")
    assert server_programs(programs) == tmp_path


def test_server_beside_pg_restore_that_does_not_run_here_is_passed_over(tmp_path: Path) -> None:
    programs = find_programs(beside(tmp_path, runs=False), server_version="18.1")
    assert server_programs(programs) == PROGRAMS
