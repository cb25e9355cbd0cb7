"""Servers of each version: a backup, its drill, its restore, and the application's own login on the copy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from deployments.room.postgres import PROGRAMS
from flows.backup.programs import INSTALLED, find_programs, major_of
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_restore_drill import odoo_restore_drill
from opsdb.errors import PreflightError
from tests.support.odoo_sample import make_odoo_database
from tests.support.postgres import databases
from tests.support.programs import program
from tests.support.servers import SERVERS, server
from tests.support.tiers import in_soak

_numbers = itertools.count()
OWN = "own"
"""The version of the programs that Debian's package postgresql-client has put here, and the server of that version."""


@pytest.fixture(
    scope="module", params=[*(pytest.param(one, marks=pytest.mark.gate) for one in (16, OWN)), *in_soak([15, 17, 18])]
)
def version(request: pytest.FixtureRequest) -> int | str:
    """A server's major version."""
    chosen: int | str = request.param
    return chosen


@pytest.fixture(scope="module")
def odoo_server(version: int | str, short_folder: Path) -> Iterator[tuple[int, str]]:
    """Its major version, and a URL with `{database}` in it; the role `odoo` may log in."""
    major = newest_installed() if version == OWN else int(version)
    folder = short_folder / f"pg{next(_numbers)}"
    folder.mkdir(mode=0o711)
    with server(major, folder) as url:
        with psycopg.connect(url.format(database="postgres"), autocommit=True) as db:
            db.execute("CREATE ROLE odoo LOGIN")
        make_odoo_database(url, "odoo_prod", owner="odoo")
        yield major, url


def newest_installed() -> int:
    program("pg_dump", package="postgresql-client")
    majors = {int(folder.parent.name) for folder in INSTALLED.glob("*/bin")} & SERVERS.keys()
    assert majors, f"add the version of Debian's postgresql-client to {sorted(SERVERS)}"
    return max(majors)


def test_backup_is_drilled_and_restored_and_the_application_works_on_the_copy(
    odoo_server: tuple[int, str], version: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    major, url = odoo_server
    monkeypatch.setenv("OPS_ODOO_DATABASE_URL", url.format(database="postgres"))
    if version != OWN:
        monkeypatch.setenv("OPS_PG_BIN", str(PROGRAMS))  # those that every room has
    expected = major if version == OWN else find_programs(PROGRAMS, server_version="1").major
    before = databases(url)
    made = odoo_db_backup("odoo_prod")
    assert (major_of(made["server_version"]), major_of(made["pg_dump_version"])) == (major, expected)
    drilled = odoo_restore_drill("odoo_prod")
    assert drilled["rows_compared"] == made["rows"] > 1000
    assert databases(url) == before
    odoo_db_restore("odoo_copy", Path(made["file"]).name)
    with psycopg.connect(make_conninfo(url.format(database="odoo_copy"), user="odoo")) as db:
        assert db.execute("SELECT count(*) > 0 FROM res_users").fetchone() == (True,)
        db.execute("CREATE TABLE of_a_new_module (id serial PRIMARY KEY)")
        db.execute("UPDATE res_users SET active = NOT active")
        db.execute("DELETE FROM res_partner WHERE id < 0")
        counted = db.execute("SELECT count(*) FROM pg_stats WHERE schemaname = 'public'").fetchone()
    assert counted is not None
    assert int(str(counted[0])) > 0  # the planner knows the tables


def test_restore_is_refused_where_the_server_would_not_take_it(
    postgres: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, before = odoo_db_backup(database), databases(postgres)
    for name in ("pg_dump", "pg_dumpall"):
        (tmp_path / name).symlink_to(PROGRAMS / name)
    script = tmp_path / "pg_restore"
    script.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec {PROGRAMS}/pg_restore --version\nexit 1\n')
    script.chmod(0o755)
    monkeypatch.setenv("OPS_PG_BIN", str(tmp_path))
    with pytest.raises(PreflightError, match="could not be restored into this server, PostgreSQL 18"):
        odoo_db_restore(f"{database}_new", Path(made["file"]).name)
    assert databases(postgres) == before
