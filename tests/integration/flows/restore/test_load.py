"""What a restore checks before it loads a dump, and the planner's statistics after it."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from deployments.room.postgres import PROGRAMS
from flows.backup.folder import Folder
from flows.engine.active_run import ActiveRun, activated
from flows.restore.load import analyze
from flows.restore.restore import look_up
from opsdb.errors import PreflightError
from opsdb.record.entries import Entry
from opsdb.settings import Settings
from tests.support.backups import NOW, make_backup


@pytest.fixture(autouse=True)
def room() -> None:
    """None is needed: no runbook runs."""


def test_statistics_that_cannot_be_collected_are_an_event_and_no_failure(postgres: str, empty_database: str) -> None:
    told: list[Entry] = []
    with activated(ActiveRun(uuid4(), 1, Settings(), told.append, in_lane=False)):
        analyze(postgres.format(database="postgres"), "nowhere")
        with psycopg.connect(empty_database) as db:
            db.execute("CREATE TABLE line AS SELECT 1 AS id")
            db.execute("CREATE FUNCTION no(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1/$1; END'")
            db.execute("CREATE INDEX ON line (public.no(id))")
            db.execute("CREATE OR REPLACE FUNCTION no(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1/0'")
        analyze(postgres.format(database="postgres"), str(conninfo_to_dict(empty_database)["dbname"]))
    assert len(told) == 2
    assert "not collected: cannot connect to PostgreSQL" in str(told[0])
    assert "not collected: division by zero" in str(told[1])


def test_restore_is_refused_where_the_server_would_not_take_it(postgres: str, tmp_path: Path) -> None:
    for name in ("pg_dump", "pg_dumpall"):
        (tmp_path / name).symlink_to(PROGRAMS / name)
    script = tmp_path / "pg_restore"
    script.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec {PROGRAMS}/pg_restore --version\nexit 1\n')
    script.chmod(0o755)
    (tmp_path / "backups").mkdir(mode=0o700)
    make_backup(tmp_path / "backups", "shop", NOW)
    settings = Settings(odoo_database_url=SecretStr(postgres.format(database="postgres")), pg_bin=tmp_path)
    with (
        activated(ActiveRun(uuid4(), 1, settings, lambda _: None, in_lane=False)),
        pytest.raises(PreflightError, match="could not be restored into this server, PostgreSQL 18"),
    ):
        look_up(Folder(tmp_path / "backups"), "shop", None, None)
