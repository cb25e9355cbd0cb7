"""What would stop a copy once its database is restored is said before anything begins."""

from __future__ import annotations

import ctypes
import errno
import subprocess
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from flows.copies.replaced import check_may_replace
from flows.engine.active_run import ActiveRun, activated
from flows.odoo_staging_copy import odoo_staging_copy
from flows.restore import filestore
from flows.restore.claim import END_SESSIONS
from flows.restore.filestore import check_exchange
from opsdb.errors import PreflightError
from opsdb.settings import load_settings
from tests.integration.flows.copies.copied_odoo import Copied, copy
from tests.support.folders import names
from tests.support.postgres import databases, running, short_folder
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server that keeps prepared transactions and logical slots, with databases of somebody else; a URL pattern."""
    with short_folder() as folder:
        with running(folder) as url, psycopg.connect(url.format(database="postgres"), autocommit=True) as db:
            db.execute("ALTER SYSTEM SET max_prepared_transactions = 2")
            db.execute("ALTER SYSTEM SET wal_level = logical")
            db.execute("CREATE ROLE odoo")
            db.execute("CREATE ROLE room LOGIN CREATEDB")
            db.execute("CREATE ROLE report LOGIN")
            db.execute("CREATE DATABASE odoo_staging OWNER odoo")
        with running(folder) as url:
            yield url


def test_role_that_may_not_rename_the_copy_is_refused(server: str) -> None:
    url = server.format(database="postgres")
    as_room = url.replace("//postgres@", "//room@")
    with pytest.raises(PreflightError, match=r"role room may not rename odoo_staging, .* Hint: .* GRANT odoo TO room"):
        check_may_replace("odoo_staging", as_room)
    with psycopg.connect(as_room) as db, pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.execute("ALTER DATABASE odoo_staging RENAME TO other")
    with psycopg.connect(url) as db:
        db.execute("GRANT odoo TO room")
    check_may_replace("odoo_staging", as_room)
    check_may_replace("not_there", as_room)
    with psycopg.connect(as_room) as db:
        db.execute("ALTER DATABASE odoo_staging RENAME TO other")
        db.rollback()


def test_copy_in_use_by_who_cannot_be_sent_away_is_refused(server: str) -> None:
    url = server.format(database="postgres")
    as_room = url.replace("//postgres@", "//room@")
    with psycopg.connect(url) as db:
        db.execute("GRANT odoo TO room")
    somebody = psycopg.connect(server.format(database="odoo_staging").replace("//postgres@", "//report@"))
    with somebody, psycopg.connect(as_room, autocommit=True) as room, psycopg.connect(url, autocommit=True) as db:
        said = (
            r"role room may not end the sessions of report in odoo_staging, .* Hint: .*GRANT pg_signal_backend TO room"
        )
        with pytest.raises(PreflightError, match=said):
            check_may_replace("odoo_staging", as_room)
        assert room.execute(END_SESSIONS, ("odoo_staging",)).fetchall() == []
        check_may_replace("odoo_staging", url)
        db.execute("GRANT pg_signal_backend TO room")
        check_may_replace("odoo_staging", as_room)
        with psycopg.connect(server.format(database="odoo_staging")):  # a superuser's, which that does not help with
            with pytest.raises(PreflightError, match="role room may not end the sessions of postgres"):
                check_may_replace("odoo_staging", as_room)
            assert room.execute(END_SESSIONS, ("odoo_staging",)).fetchall() == [(True,)]
        with pytest.raises(psycopg.OperationalError):
            somebody.execute("SELECT 1")
        db.execute("REVOKE pg_signal_backend FROM room")


def test_copy_that_the_room_is_connected_to_is_refused(server: str) -> None:
    with pytest.raises(PreflightError, match="let OPS_ODOO_DATABASE_URL name `postgres`"):
        check_may_replace("odoo_staging", server.format(database="odoo_staging"))


def test_copy_with_a_prepared_transaction_is_refused(server: str) -> None:
    url = server.format(database="postgres")
    with psycopg.connect(server.format(database="odoo_staging"), autocommit=True) as db:
        db.execute("BEGIN; CREATE TABLE waiting (id int); PREPARE TRANSACTION 'half done'")
        with pytest.raises(PreflightError, match=r"the prepared transaction 'half done' of role postgres, .*ROLLBACK"):
            check_may_replace("odoo_staging", url)
        db.execute("ROLLBACK PREPARED 'half done'")
    check_may_replace("odoo_staging", url)


def test_copy_whose_replication_slot_is_in_use_is_refused(server: str) -> None:
    url = server.format(database="postgres")
    there = server.format(database="odoo_staging")
    with psycopg.connect(there, autocommit=True) as db:
        db.execute("CREATE PUBLICATION sales FOR ALL TABLES")
        db.execute("SELECT pg_create_logical_replication_slot('reports', 'pgoutput')")
        check_may_replace("odoo_staging", url)  # nobody uses it: it goes with the database
        with psycopg.connect(f"{there}&replication=database", autocommit=True) as consumer:
            consumer.pgconn.send_query(
                b"START_REPLICATION SLOT reports LOGICAL 0/0 (proto_version '1', publication_names 'sales')"
            )
            wait_for(lambda: db.execute("SELECT active FROM pg_replication_slots").fetchone() == (True,), seconds=20)
            with pytest.raises(PreflightError, match="the replication slot 'reports' of odoo_staging is in use"):
                check_may_replace("odoo_staging", url)
            consumer.pgconn.finish()
        wait_for(lambda: db.execute("SELECT active FROM pg_replication_slots").fetchone() == (False,), seconds=20)
        db.execute("SELECT pg_drop_replication_slot('reports')")
        db.execute("DROP PUBLICATION sales")


@pytest.mark.parametrize("live", [False, True])
def test_what_would_stop_a_copy_is_said_before_it_begins(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, *, live: bool
) -> None:
    copy(copied)
    before = databases(copied.postgres), names(copied.filestores)
    monkeypatch.setenv("OPS_ODOO_DATABASE_URL", copied.postgres.format(database=copied.staging))
    with pytest.raises(PreflightError, match=f"odoo_db: {copied.staging} cannot be replaced by who is connected"):
        odoo_staging_copy(copied.staging, copied.production, live=live)
    assert (databases(copied.postgres), names(copied.filestores)) == before


def test_copy_with_a_subscription_is_refused(server: str) -> None:
    url = server.format(database="postgres")
    with psycopg.connect(server.format(database="odoo_staging"), autocommit=True) as db:
        db.execute("CREATE SUBSCRIPTION orders CONNECTION 'dbname=shop' PUBLICATION p WITH (connect = false)")
        with pytest.raises(
            PreflightError, match=r"has the subscription 'orders', .* Hint: .* DROP SUBSCRIPTION orders"
        ):
            check_may_replace("odoo_staging", url)
        db.execute("ALTER SUBSCRIPTION orders SET (slot_name = NONE)")
        db.execute("DROP SUBSCRIPTION orders")
    check_may_replace("odoo_staging", url)


def test_filestore_behind_a_link_can_be_exchanged(copied: Copied) -> None:
    link = copied.filestores.with_name("link")
    link.symlink_to(copied.filestores)
    before = names(copied.filestores)
    run = ActiveRun(uuid4(), 1, load_settings(), lambda _: None, in_lane=False)
    (copied.filestores / f".ops-{run.id.hex}-1").mkdir()  # of an attempt that was killed here
    with activated(run):
        check_exchange(link / copied.production)
        check_exchange(link / "not_there")
    assert names(copied.filestores) == before


class OldFileSystem:
    """The C library on a file system that can only rename."""

    @staticmethod
    def renameat2(_from: int, _old: bytes, _to: int, _new: bytes, flags: int) -> int:
        assert flags == 2
        ctypes.set_errno(errno.EINVAL)
        return -1


def test_filestore_that_cannot_be_exchanged_is_refused_before_the_restore(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(copied)
    before = databases(copied.postgres), names(copied.filestores)
    subprocess.run(["mount", "--bind", copied.filestore, copied.filestore], check=True, timeout=10)
    try:
        with pytest.raises(PreflightError, match=f"{copied.filestore} is a mount point, .*at {copied.filestores}"):
            copy(copied)
    finally:
        subprocess.run(["umount", copied.filestore], check=True, timeout=10)
    monkeypatch.setattr(filestore, "_LIBC", OldFileSystem())
    with pytest.raises(PreflightError, match=r"cannot exchange two folders \(Invalid argument\)\. Hint: name a folder"):
        copy(copied)
    assert (databases(copied.postgres), names(copied.filestores)) == before
