"""A copy takes the place of yesterday's, database and filestore; whoever is killed leaves the one or the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from flows import odoo_staging_copy as runbook
from flows.copies import replaced
from flows.copies.replaced import MARK
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_staging_copy import odoo_staging_copy
from flows.restore.scratch import Scratch
from opsdb.errors import PreflightError, StepFailedError
from tests.integration.flows.copies.copied_odoo import Copied, copy, next_day, stored
from tests.support.folders import files
from tests.support.live_odoo import texts
from tests.support.postgres import databases
from tests.support.tiers import in_gate, in_soak

LiveOdoo = Callable[..., str]
KILLED_AT = """
import os, signal, sys
from flows.engine.active_run import ActiveRun
from flows.odoo_staging_copy import odoo_staging_copy
from flows.restore.filestore import Unpacked
from flows.restore.scratch import Scratch
import psycopg

staging, backup, filestore, at = sys.argv[1:]
left = int(at.rpartition(" ")[2])

def count():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def counting(method):
    def counted(*given, **named):
        if inside:
            count()
        return method(*given, **named)
    return counted

def execute(db, query, *given, **named):
    text = query.as_string(None) if hasattr(query, "as_string") else str(query)
    if inside and text.split()[0] in ("ALTER", "COMMENT", "DROP", "GRANT", "REVOKE"):
        count()
    return executed(db, query, *given, **named)

def keep_as(scratch, *given, **named):
    inside.append(True)
    try:
        return kept(scratch, *given, **named)
    finally:
        inside.clear()

def exchange_and_count(files):
    exchange(files)
    count()

inside, kept, exchange, executed = [], Scratch.keep_as, Unpacked.exchange, psycopg.Connection.execute
if at.startswith("exchange"):
    Unpacked.exchange = exchange_and_count
elif at.startswith("step"):
    ActiveRun.make_sure_of = lambda run, name: count()
else:
    Scratch.keep_as = keep_as
    psycopg.Connection.execute = execute
    psycopg.transaction.Transaction.__exit__ = counting(psycopg.transaction.Transaction.__exit__)
    Unpacked.exchange = counting(Unpacked.exchange)
odoo_staging_copy(staging, backup, filestore_dir=filestore)
"""


@contextmanager
def coming_again(copied: Copied) -> Iterator[None]:
    """Clients that connect to the copy all the time, as web workers and probes do."""
    over = threading.Event()

    def come() -> None:
        while not over.wait(0.02):
            with suppress(psycopg.Error), psycopg.connect(copied.postgres.format(database=copied.staging)) as db:
                db.execute("SELECT pg_sleep(0.1)")

    clients = [threading.Thread(target=come) for _ in range(3)]
    for one in clients:
        one.start()
    try:
        yield
    finally:
        over.set()
        for one in clients:
            one.join(30)


@pytest.mark.promise(12)
def test_copy_takes_the_place_of_yesterdays(copied: Copied) -> None:
    assert copy(copied)["published"] == "neutralised: without jobs, mail and payments, with a database.uuid of its own"
    assert copied.check_whole() == "first day"
    (copied.filestore / MARK).unlink()
    assert files(copied.filestore) == files(copied.filestores / copied.production)
    own = copied.attach("made in the copy")
    next_day(copied)
    before = databases(copied.postgres)
    with psycopg.connect(copied.postgres.format(database=copied.staging)) as somebody, coming_again(copied):
        copy(copied)
        with pytest.raises(psycopg.OperationalError):
            somebody.execute("SELECT 1")
    assert copied.check_whole() == "second day"
    assert copied.query("SELECT count(*) FROM ir_attachment") == [(3,)]
    assert databases(copied.postgres) == before
    assert sorted(one.name for one in copied.filestores.iterdir()) == [copied.production, copied.staging]
    # what only the old copy needed is marked for Odoo's own clean-up, and nothing else is
    assert (copied.filestore / own).read_text() == "made in the copy"
    marked = [one for one in (copied.filestore / "checklist").rglob("*") if one.is_file()]
    assert [str(one.relative_to(copied.filestore / "checklist")) for one in marked] == [own]


@pytest.mark.parametrize("what", ["production", "plain", "source"])
def test_production_is_never_replaced(copied: Copied, live_odoo: LiveOdoo, database: str, what: str) -> None:
    names = {"production": live_odoo(), "plain": database, "source": copied.production}
    said = {
        "production": "is a production database, or was never neutralised, and is not replaced",
        "plain": "is not an Odoo's database, and is not replaced",
        "source": "is the database of the backup itself",
    }
    before = databases(copied.postgres)
    with pytest.raises(PreflightError, match=said[what]):
        odoo_staging_copy(names[what], copied.production)
    assert databases(copied.postgres) == before


def test_production_restored_as_such_under_the_name_of_a_copy_is_not_replaced(copied: Copied) -> None:
    copied.query("DELETE FROM ir_config_parameter WHERE key = 'database.uuid'", copied.production)
    with psycopg.connect(copied.postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'ALTER DATABASE "{copied.production}" RENAME TO "{copied.production}_moved"')
    odoo_db_restore(copied.staging, copied.production, as_production=True)
    with pytest.raises(PreflightError, match="is a production database, or was never neutralised"):
        copy(copied)


def test_filestore_of_another_name_is_refused(copied: Copied, tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=f"Hint: {tmp_path}/filestore/{copied.staging}"):
        odoo_staging_copy(copied.staging, copied.production, filestore_dir=f"{tmp_path}/filestore/other")


def test_copy_of_before_that_cannot_be_dropped_stops_no_new_one(
    copied: Copied, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(copied)

    def refuse(_server: object, name: str) -> None:
        raise psycopg.errors.ObjectInUse(f"database {name} is used by a replication slot")

    monkeypatch.setattr(replaced, "drop_database", refuse)
    with pytest.raises(StepFailedError, match=r"was replaced, but ops_replaced_.* cannot be dropped"):
        copy(copied)
    with pytest.raises(StepFailedError, match="was replaced"):
        copy(copied)
    assert [one for one in told if "a previous copy, cannot be dropped" in one] != []
    assert copied.check_whole() == "first day"


def test_filestore_that_is_not_a_copys_is_refused(copied: Copied) -> None:
    somebodys = stored(copied.filestore, "of an Odoo whose database is on another server")
    with pytest.raises(PreflightError, match=f"filestore_dir: {copied.filestore} is not a copy's"):
        copy(copied)
    assert (copied.filestore / somebodys).is_file()
    (copied.filestore / MARK).touch()  # as a first copy has it that was killed before its database got its name
    copy(copied)
    assert copied.check_whole() == "first day"


def test_failure_leaves_yesterdays_copy(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    copy(copied)
    before = texts(copied.postgres.format(database=copied.staging)), files(copied.filestore)
    next_day(copied)
    there = databases(copied.postgres)
    keep = Scratch.keep_as

    def keep_and_fail(scratch: Scratch, *given: object, at_last: Callable[[], None], **named: object) -> list[str]:
        def fail() -> None:
            at_last()
            raise StepFailedError("the server went away")

        return keep(scratch, *given, at_last=fail, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Scratch, "keep_as", keep_and_fail)
    with pytest.raises(StepFailedError, match="the server went away"):
        copy(copied)
    assert (texts(copied.postgres.format(database=copied.staging)), files(copied.filestore)) == before
    assert databases(copied.postgres) == there


def test_what_became_production_meanwhile_is_not_replaced(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    copy(copied)
    there = databases(copied.postgres)

    def promote(*_: object) -> None:
        copied.query("UPDATE ir_config_parameter SET value = 'false' WHERE key = 'database.is_neutralized'")

    monkeypatch.setattr(runbook, "keep_old_files", promote)
    with pytest.raises(PreflightError, match="is a production database, or was never neutralised"):
        copy(copied)
    assert databases(copied.postgres) == there
    assert copied.check_whole() == "first day"


def killed(copied: Copied, prefect_client: dict[str, str], room: dict[str, str], at: str) -> bool:
    """Whether the run was killed there, and did not get that far before its end."""
    words = [copied.staging, copied.production, str(copied.filestore), at]
    env = {**os.environ, **prefect_client, **room}
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT, *words],
        env=env, cwd=Path(__file__).parents[4], capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode != 0


@pytest.mark.parametrize("kind", ["exchange 1", *in_gate(["step"]), *in_soak(["swap"])])
def test_killed_anywhere_leaves_one_whole_copy(
    copied: Copied, prefect_client: dict[str, str], room: dict[str, str], kind: str
) -> None:
    copy(copied)
    copied.attach("made in the copy")
    next_day(copied)
    before, days = databases(copied.postgres), list[str]()
    cases = [kind] if " " in kind else [f"{kind} {number}" for number in range(1, 60)]
    for at in cases:
        again = killed(copied, prefect_client, room, at)
        days.append(copied.check_whole())
        if not again:
            break
    assert again == (" " in kind)  # each was killed, but the one after the last
    assert days[0] == "first day"
    assert set(days) <= {"first day", "second day"}
    assert days == sorted(days)  # a later kill leaves no older copy
    copy(copied)
    assert copied.check_whole() == "second day"
    assert databases(copied.postgres) == before
    assert sorted(one.name for one in copied.filestores.iterdir()) == [copied.production, copied.staging]
