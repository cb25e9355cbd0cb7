"""A scratch database whose connection is lost: the restore goes on, and nobody drops what it works on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from flows.engine import step
from flows.engine.active_run import ActiveRun, activated
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.restore import claim, load
from flows.restore import filestore as unpacking
from flows.restore.scratch import Scratch, drop_leftovers, scratch_name
from opsdb.errors import StepFailedError
from opsdb.record.entries import Entry
from opsdb.settings import Settings
from tests.integration.flows.conftest import content
from tests.support.postgres import databases

HOLDERS = " FROM pg_stat_activity WHERE application_name = %s"


def end_session(postgres: str, scratch: str) -> None:
    """End the session that holds the scratch database, and wait until it is gone."""
    with psycopg.connect(postgres.format(database="postgres")) as db:
        ended = db.execute("SELECT pg_terminate_backend(pid, 60000)" + HOLDERS, (scratch,)).fetchall()
    assert ended == [(True,)]


@pytest.fixture
def told() -> list[Entry]:
    return []


@pytest.fixture
def scratch(postgres: str, told: list[Entry]) -> Iterator[Scratch]:
    run = ActiveRun(uuid4(), 1, Settings(), told.append, in_lane=False)
    with activated(run):
        made = Scratch(postgres.format(database="postgres"), run_id=run.id, locale=None)
        made.make()
        yield made
        made.close()


def test_restore_whose_connection_is_lost_is_named_all_the_same(
    postgres: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    before = databases(postgres)

    def without_its_session(name: str, *given: Any, **named: Any) -> object:
        if name == "restore":
            end_session(postgres, named["env"]["SCRATCH"])
        return step.step(name, *given, **named)

    monkeypatch.setattr(load, "step", without_its_session)
    new = f"{database}_new"
    odoo_db_restore(new, dump.name)
    assert content(postgres.format(database=new)) == content(postgres.format(database=database))
    assert databases(postgres) == before | {new}


@pytest.mark.usefixtures("attachments")
def test_restored_database_that_is_gone_is_told_and_leaves_no_filestore(
    postgres: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    before = databases(postgres)

    def without_its_database(*given: Any, **named: Any) -> object:
        (scratch,) = databases(postgres) - before
        end_session(postgres, scratch)
        assert drop_leftovers(postgres.format(database="postgres")) == [scratch]
        return step.step(*given, **named)

    monkeypatch.setattr(unpacking, "step", without_its_database)
    with pytest.raises(StepFailedError, match=r"is gone: .* Start the restore again"):
        odoo_db_restore(f"{database}_new", dump.name, filestore_dir=str(tmp_path / "new"))
    assert databases(postgres) == before
    assert [path for path in tmp_path.iterdir() if "new" in path.name] == []


def test_database_that_somebody_is_connected_to_is_no_leftover(
    postgres: str, scratch: Scratch, told: list[Entry]
) -> None:
    end_session(postgres, scratch.name)
    url = postgres.format(database="postgres")
    with psycopg.connect(postgres.format(database=scratch.name)):  # as pg_restore is
        assert drop_leftovers(url) == []
    scratch.drop()
    assert scratch.name not in databases(postgres)
    assert f"the connection that held {scratch.name} was lost" in str(told)


def test_server_that_ends_idle_sessions_does_not_end_this_one(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c idle_session_timeout=100ms")
    scratch = Scratch(postgres.format(database="postgres"), run_id=uuid4(), locale=None)
    scratch.make()
    monkeypatch.delenv("PGOPTIONS")
    with psycopg.connect(postgres.format(database="postgres")) as db:
        db.execute("SELECT pg_sleep(1)")  # ten times as long as it would have
        assert db.execute("SELECT count(*)" + HOLDERS, (scratch.name,)).fetchone() == (1,)
    scratch.close()


@pytest.fixture
def stranger(postgres: str) -> Iterator[str]:
    """The URL of a login of the server without any right."""
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as admin:
        admin.execute("CREATE ROLE scratch_stranger LOGIN")
        yield postgres.format(database="postgres").replace("postgres@", "scratch_stranger@")
        admin.execute("DROP ROLE scratch_stranger")


@pytest.mark.usefixtures("told")
def test_stranger_that_claims_a_scratch_database_holds_up_nobody(
    postgres: str, stranger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "_CLAIM_SECONDS", 0.5)
    url, run = (
        postgres.format(database="postgres"),
        ActiveRun(uuid4(), 1, Settings(), list[Entry]().append, in_lane=False),
    )
    name = scratch_name(run.id)
    with psycopg.connect(stranger, application_name=name) as eve, activated(run):
        eve.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
        made = Scratch(url, run_id=run.id, locale=None)
        made.make()
        assert drop_leftovers(url) == []
        with psycopg.connect(url) as db:
            db.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = %s AND "
                "usename = 'postgres'",
                (name,),
            )
        assert drop_leftovers(url) == [name]


def test_run_waits_for_the_session_of_an_attempt_that_was_cut_off(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, run_id = postgres.format(database="postgres"), uuid4()
    first = Scratch(url, run_id=run_id, locale=None)
    first.make()
    second = Scratch(url, run_id=run_id, locale=None)
    with monkeypatch.context() as hurried:
        hurried.setattr(claim, "_CLAIM_SECONDS", 0.3)
        with pytest.raises(StepFailedError, match=r"did not end in 0\.3 s"):
            second.make()
    assert first._server is not None
    ending = threading.Timer(0.3, first._server.close)
    ending.start()
    second.make()
    ending.join()
    assert drop_leftovers(url) == []
    second.close()
    assert first.name not in databases(postgres)
