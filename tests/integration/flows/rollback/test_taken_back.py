"""An upgrade taken back against a real PostgreSQL, git and filestore. Docker and Odoo are stand-ins."""

from __future__ import annotations

import json
import os
import re
import shutil
from functools import partial
from types import SimpleNamespace
from uuid import uuid4

import psycopg
import pytest

from flows.backup.folder import MARGIN_BYTES
from flows.engine.dry_run import dry_run
from flows.odoo import aside, rollback
from flows.odoo.aside import name_before, name_broken
from flows.odoo_upgrade_rollback import odoo_upgrade_rollback
from flows.restore import server
from opsdb.errors import PreflightError, StepFailedError
from opsdb.settings import load_settings
from tests.integration.flows.odoo_sites import COMPOSE, git
from tests.integration.flows.rollback.shops import Shop, work
from tests.support.folders import files
from tests.support.other_user import NOBODY
from tests.support.postgres import databases
from tests.support.programs import needs_root
from tests.support.tiers import in_gate


@pytest.mark.parametrize("protect", ["dump", "copy"])
def test_upgrade_is_taken_back_whole_and_what_was_written_since_is_named_and_kept(shop: Shop, protect: str) -> None:
    shop.execute(f"ALTER DATABASE \"{shop.database}\" SET work_mem = '5MB'")
    before = shop.seen()
    done = shop.do_upgrade(protect=protect)
    assert done["protection"].startswith(f"{shop.database}_" if protect == "dump" else "a copy on the server of ")
    assert (name_before(shop.upgrade) in databases(shop.postgres)) is (protect == "copy")
    work(shop)
    after = shop.seen()
    assert after != before
    result = shop.roll_back()
    assert shop.seen() == before
    assert result["commit"] == shop.commit
    assert result["not_restored"] == []
    told = "; ".join(result["written_since"])
    assert "sale_order (+1 rows, 2 written)" in told
    assert "line (-2 rows)" in told
    # what was taken back is there, out of Odoo's sight, until somebody drops it
    broken = name_broken(shop.upgrade)
    with psycopg.connect(shop.postgres.format(database=broken)) as db:
        assert db.execute("SELECT count(*) FROM sale_order").fetchone() == (3,)
        query = "SELECT datistemplate FROM pg_database WHERE datname = current_database()"
        assert db.execute(query).fetchone() == (True,)
    assert files(shop.filestores / broken) == after["files"]
    assert broken in result["drop_it_with"]
    assert name_before(shop.upgrade) not in databases(shop.postgres)
    assert sorted(one.name for one in shop.filestores.iterdir()) == sorted([shop.database, broken])
    json.dumps(result)
    # once more: nothing is moved any more, Odoo is asked for its health
    work(shop)
    again = shop.seen()
    assert shop.roll_back()["written_since"] == []
    assert shop.seen() == again


def test_upgrade_that_failed_half_way_is_taken_back(shop: Shop) -> None:
    before = shop.seen()
    shop.site.manner.write_text("half way")
    with pytest.raises(StepFailedError):
        shop.do_upgrade()
    assert shop.versions() != before["modules"]
    shop.roll_back()
    assert shop.seen() == before


def test_upgrade_that_ended_before_it_touched_the_database_has_its_code_taken_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shop.seen()

    def refuse(*_words: object) -> None:
        raise StepFailedError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("flows.odoo.protection.make_backup", refuse)
        with pytest.raises(StepFailedError, match="no room"):
            shop.do_upgrade()
    assert git(shop.site.checkout, "rev-parse", "HEAD") == shop.commit  # by the upgrade's own run
    shop.execute("INSERT INTO sale_order (name) VALUES ('S3')")
    result = shop.roll_back()
    assert (result["taken_back_to"], result["set_aside"]["database"]) == (None, None)
    assert shop.seen() == before | {"orders": shop.execute("SELECT * FROM sale_order ORDER BY 1")}
    assert len(shop.execute("SELECT * FROM sale_order")) == 3


@pytest.mark.parametrize(
    "at", ["swap_filestores", "submodules", *in_gate(["swap_databases", "all_in_place", "code_of_before"])]
)
def test_rollback_that_fails_undoes_what_it_did(shop: Shop, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    before = shop.seen()
    shop.do_upgrade()
    work(shop)
    after = shop.seen()

    def fails(*_words: object, **_named: object) -> None:
        patch.undo()  # the next time it works
        raise StepFailedError("the disk is gone")

    with monkeypatch.context() as patch:
        if at == "code_of_before":
            patch.setattr(rollback, "STOP", f'{rollback.STOP}\necho changed > "$REPO/{COMPOSE}"\n')
        elif at == "submodules":  # HEAD moved, and they did not
            patch.setattr(rollback, "TO_COMMIT", rollback.TO_COMMIT.replace('at "$COMMIT"', 'at "$COMMIT"; exit 1'))
        else:
            name = "set_comment" if at == "all_in_place" else at
            patch.setattr(aside, name, fails)
        with pytest.raises(StepFailedError, match=r"changed by hand|the disk is gone|code_of_before failed"):
            shop.roll_back()
    git(shop.site.checkout, "checkout", "-q", "--", ".")
    assert shop.seen() == after
    shop.roll_back()
    assert shop.seen() == before


class Killed(BaseException):
    """The process ends here: nothing is undone."""


def test_rollback_that_fails_after_one_that_was_killed_at_its_end_puts_code_and_database_back_together(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shop.seen()
    shop.do_upgrade(protect="copy")
    after = shop.seen()

    def dies(*_words: object) -> None:
        raise Killed

    def fails(*_words: object, **_named: object) -> None:
        patch.undo()  # what undoes it uses it, too
        raise StepFailedError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(aside, "set_comment", dies)
        with pytest.raises(Killed):
            shop.roll_back()
    with monkeypatch.context() as patch:
        patch.setattr(aside, "swap_filestores", fails)
        with pytest.raises(StepFailedError, match="the disk is gone"):
            shop.roll_back()
    assert shop.seen() == after | {"stopped": True}  # as the one that was killed had left it
    shop.roll_back()
    assert shop.seen() == before


def drop_database(postgres: str, name: str) -> None:
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f"DROP DATABASE {name}".encode())


def test_question_names_what_was_written_and_what_else_gets_the_code_and_a_dry_run_shows_it(
    shop: Shop, request: pytest.FixtureRequest
) -> None:
    for name, table in (("another_odoo", "ir_module_module"), ("no_odoo", "x")):
        with psycopg.connect(shop.postgres.format(database="postgres"), autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}".encode())
        request.addfinalizer(partial(drop_database, shop.postgres, name))
        with psycopg.connect(shop.postgres.format(database=name)) as db:
            db.execute(f"CREATE TABLE {table} (id int)".encode())
    shop.do_upgrade()
    work(shop)
    facts = {"odoo_db": shop.database, "upgrade": str(shop.upgrade)}
    planned = dry_run(odoo_upgrade_rollback, facts, settings=load_settings())
    assert planned.error is None
    names = [one.name for one in planned.steps]
    assert names[:3] == ["preflight", "count_rows", "approve_rollback"]
    assert names[-2:] == ["start_odoo", "wait_health"]
    asked = planned.steps[2].command
    assert "sale_order (+1 rows, 2 written)" in asked
    assert f"take {shop.database} back to {shop.database}_" in asked
    # the code goes back beneath whatever else Odoo serves from that checkout
    assert "another_odoo" in asked
    assert f"one that Odoo serves from {shop.site.checkout} gets the previous code as well" in asked
    assert "no_odoo" not in asked
    assert not databases(shop.postgres) & {name_before(shop.upgrade), name_broken(shop.upgrade)}


@pytest.mark.parametrize("wrong", ["unknown", "database", "nothing protected", "backup gone", "checkout changed"])
def test_what_cannot_be_taken_back_is_refused_by_name_before_anything_changes(shop: Shop, wrong: str) -> None:
    shop.do_upgrade(protect="none" if wrong == "nothing protected" else "dump")
    after, calls = shop.seen(), len(shop.site.daemon.calls)
    changes = {"unknown": {"upgrade": str(uuid4())}, "database": {"odoo_db": "another"}}
    if wrong == "backup gone":
        for file in load_settings().backups.glob("*.dump"):
            file.unlink()
    if wrong == "checkout changed":
        (shop.site.checkout / COMPOSE).write_text("changed\n")
    said = {
        "checkout changed": f"was changed by hand: M {COMPOSE}",
        "unknown": "not recorded here",
        "database": f"upgraded {shop.database}, not another",
        "nothing protected": r"protected nothing \(protect=none\)",
        "backup gone": "holds no backup",
    }
    with pytest.raises(PreflightError, match=said[wrong]):
        shop.roll_back(**changes.get(wrong, {}))
    assert shop.seen() == after
    assert len(shop.site.daemon.calls) == calls


def test_copy_shares_files_that_are_never_written_and_no_others(shop: Shop) -> None:
    """Odoo writes a file whose name is the SHA-1 of its content once. What else lies there, nobody knows."""
    live = shop.filestores / shop.database
    (live / "checklist").mkdir()
    (live / "checklist" / "note").write_text("one")
    shop.do_upgrade(protect="copy")
    copied = shop.filestores / name_before(shop.upgrade)
    assert files(copied) == files(live)
    (live / "checklist" / "note").write_text("two")
    assert (copied / "checklist" / "note").read_text() == "one"
    assert not [one for one in shop.filestores.iterdir() if one.name.startswith(".")]
    [attachment] = [one for one in live.rglob("*") if len(one.name) == 40]
    attachment.unlink()  # as Odoo's own collector does
    assert (copied / attachment.relative_to(live)).read_text() == "an invoice"


@needs_root
def test_copy_of_the_filestore_of_odoos_user_is_made_as_that_user(shop: Shop) -> None:
    """Root would copy what that user may not read, and follow where a link leads that the user put there."""
    for path in (shop.filestores, *shop.filestores.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    shop.do_upgrade(protect="copy")
    copied = shop.filestores / name_before(shop.upgrade)
    assert files(copied) == files(shop.filestores / shop.database)
    assert {path.lstat().st_uid for path in (copied, *copied.rglob("*"))} == {NOBODY}
    of_root = shop.filestores / shop.database / "of_root"
    of_root.mkdir(mode=0o700)
    with pytest.raises(StepFailedError, match="copy_filestore"):
        shop.do_upgrade(protect="copy")
    assert not shop.site.daemon.stopped


def test_copy_that_somebody_dropped_and_one_without_room_are_refused(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.do_upgrade(protect="copy")
    copied = shop.filestores / name_before(shop.upgrade)
    copied.rename(copied.with_name("elsewhere"))
    with pytest.raises(PreflightError, match=f"{copied} is gone: somebody removed the previous filestore"):
        shop.roll_back()
    with psycopg.connect(shop.postgres.format(database="postgres"), autocommit=True) as db:
        aside.drop(db, name_before(shop.upgrade))
    with pytest.raises(PreflightError, match=f"the copy {name_before(shop.upgrade)} is gone: somebody dropped it"):
        shop.roll_back()
    for protect, full, said in (
        ("copy", "postgres/data", r"has 0 MB free; the restored database may need \d+ MB"),
        ("dump", "postgres/data", r"has 0 MB free; the restored database may need \d+ MB"),
        ("dump", "home", r"home has 0 MB free, the dump may need \d+ MB"),
        ("dump", "/filestore", r"filestore has 0 MB free, the previous filestore, .* may need \d+ MB"),
        ("copy", "/filestore", r"filestore has 0 MB free, the copy of the filestore may need \d+ MB"),
    ):

        def free(folder: object, full: str = full) -> SimpleNamespace:
            return SimpleNamespace(free=1000 if str(folder).endswith(full) else 10**12)

        monkeypatch.setattr(shutil, "disk_usage", free)
        with pytest.raises(PreflightError, match=said):
            shop.do_upgrade(protect=protect)
    assert git(shop.site.checkout, "rev-parse", "HEAD") != shop.upgraded


def test_database_and_filestore_of_before_need_room_on_one_disk(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alone would fit. Refused by the upgrade, and by a rollback before Odoo is stopped."""
    free = 10**9

    def crowded(folder: object) -> SimpleNamespace:
        return SimpleNamespace(free=free if str(folder).endswith("postgres/data") else 10**12)

    monkeypatch.setattr(shutil, "disk_usage", crowded)
    monkeypatch.setattr(server, "on_one_disk", lambda *_folders: True)  # the test's server may be in memory
    said = r"what else is put on that disk [\d,]+ MB, and \d+ MB must stay"
    film = shop.filestores / shop.database / "film"
    with film.open("wb") as file:
        file.truncate(2 * 10**9)
    with pytest.raises(PreflightError, match=said):
        shop.do_upgrade(protect="dump")
    film.unlink()
    shop.do_upgrade(protect="dump")
    after, calls = shop.seen(), len(shop.site.daemon.calls)
    [manifest] = load_settings().backups.glob("*.dump.json")
    [size] = re.findall(r'"database_bytes": (\d+)', manifest.read_text())
    free = int(size) + MARGIN_BYTES
    with pytest.raises(PreflightError, match=said):
        shop.roll_back()
    assert (shop.seen(), len(shop.site.daemon.calls)) == (after, calls)
