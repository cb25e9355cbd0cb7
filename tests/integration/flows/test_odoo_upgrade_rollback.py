"""An upgrade taken back against a real PostgreSQL, git and filestore. Docker and Odoo are stand-ins."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from flows.backup.folder import MARGIN_BYTES
from flows.engine.active_run import ActiveRun
from flows.engine.dry_run import dry_run
from flows.odoo import aside, rollback
from flows.odoo.aside import name_before, name_broken
from flows.odoo_upgrade_rollback import odoo_upgrade_rollback
from flows.restore import server
from opsdb.errors import PreflightError, StepFailedError
from opsdb.runs.lookup import list_runs, reading
from opsdb.settings import Settings, load_settings
from tests.integration.flows.conftest import content
from tests.integration.flows.odoo_sites import COMPOSE, Site, git
from tests.integration.flows.recorded import recorded, run_killed_after, told_by_next_attempt
from tests.support.folders import files
from tests.support.other_user import NOBODY
from tests.support.postgres import databases
from tests.support.programs import needs_root


@dataclass
class Shop:
    """An Odoo with a filestore that was upgraded, and what it was before."""

    site: Site
    postgres: str
    filestores: Path
    runs: list[ActiveRun]
    steps: list[str]
    """The steps that succeeded, of all runs."""
    upgrade: UUID = field(default_factory=uuid4)
    commit: str = ""
    upgraded: str = ""

    @property
    def database(self) -> str:
        return self.site.database

    @property
    def url(self) -> str:
        return self.postgres.format(database=self.database)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as db:
            cursor = db.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def versions(self) -> list[tuple[Any, ...]]:
        return self.execute("SELECT name, state, latest_version FROM ir_module_module ORDER BY 1")

    def do_upgrade(self, **changes: Any) -> dict[str, Any]:
        """Upgrade, and let people and Odoo write afterwards."""
        self.commit = git(self.site.checkout, "rev-parse", "HEAD")
        self.upgraded = self.site.commit(f"upgrade {len(self.runs)}")
        try:
            return self.site.upgrade(**({"protect": "dump"} | changes))
        finally:
            self.upgrade = self.runs[-1].id

    def roll_back(self, **changes: Any) -> dict[str, Any]:
        facts: dict[str, Any] = {"odoo_db": self.database, "upgrade": str(self.upgrade), "ask": False}
        result: dict[str, Any] = odoo_upgrade_rollback(**(facts | changes))
        return result

    def put_upgrade_back(self, *, keep: bool) -> None:
        """What a rollback set aside is live again, and what it restored is there or not: faster than to upgrade."""
        names = {"incoming": name_broken(self.upgrade), "aside": name_before(self.upgrade)}
        comment = aside.comment_before(self.database, self.upgrade)
        aside.swap_databases(self.url, self.database, **names, comment=comment)
        aside.swap_filestores(self.filestores, self.database, **names)
        if not keep:
            with psycopg.connect(self.postgres.format(database="postgres"), autocommit=True) as db:
                aside.drop(db, names["aside"])
            shutil.rmtree(self.filestores / names["aside"])
        git(self.site.checkout, "checkout", "-q", "--detach", self.upgraded)

    def attach(self, text: str) -> None:
        """An attachment, with its row and its file."""
        name = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        path = self.filestores / self.database / name[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.execute(f"INSERT INTO ir_attachment (store_fname) VALUES ('{name[:2]}/{name}')")

    def seen(self) -> dict[str, object]:
        """All of what production is: rows, modules, files, code, and whether Odoo runs."""
        return {
            "rows": content(self.url),
            "modules": self.versions(),
            "orders": self.execute("SELECT * FROM sale_order ORDER BY 1"),
            "files": files(self.filestores / self.database),
            "commit": git(self.site.checkout, "rev-parse", "HEAD"),
            "stopped": self.site.daemon.stopped,
            "settings": self.execute("SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d"
                                     " ON d.oid = setdatabase WHERE datname = current_database()"),
            "aside": self.execute("SELECT datistemplate, shobj_description(oid, 'pg_database') FROM pg_database"
                                  " WHERE datname = current_database()"),
        }  # fmt: skip


@pytest.fixture
def shop(
    site: Site, settings: Settings, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    filestores = tmp_path / "filestore"
    monkeypatch.setenv("OPS_FILESTORE_DIR", str(filestores))
    # as a room that was given the address of its Odoo's own database
    monkeypatch.setenv("OPS_ODOO_DATABASE_URL", postgres.format(database=site.database))
    monkeypatch.setenv("OPS_DATABASE_URL", settings.database_url.get_secret_value() if settings.database_url else "")
    steps: list[str] = []
    with recorded(heard=lambda name, status: steps.append(name) if status == "succeeded" else None) as runs:
        made = Shop(site, postgres, filestores, runs, steps)
        made.execute("CREATE TABLE ir_attachment (id serial, store_fname varchar)")
        made.execute("CREATE TABLE sale_order (id serial PRIMARY KEY, name text, write_date timestamp)")
        made.execute("INSERT INTO sale_order (name, write_date) VALUES ('S1', '2020-01-01'), ('S2', '2020-01-01')")
        made.attach("an invoice")
        yield made


def in_gate(cases: list[str]) -> list[Any]:
    return [pytest.param(case, marks=pytest.mark.gate) for case in cases]


def work(shop: Shop) -> None:
    """What people do after an upgrade."""
    shop.execute("INSERT INTO sale_order (name, write_date) VALUES ('S3', now() at time zone 'UTC' + interval '1 h')")
    shop.execute(
        "UPDATE sale_order SET name = 'S1*', write_date = now() at time zone 'UTC' + interval '1 h' WHERE id = 1"
    )
    shop.execute("DELETE FROM line WHERE id < 3")
    shop.attach("another invoice")


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
    assert f"one that Odoo serves from {shop.site.checkout} gets the code of before as well" in asked
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
    with pytest.raises(PreflightError, match=f"{copied} is gone: somebody removed the filestore of before"):
        shop.roll_back()
    with psycopg.connect(shop.postgres.format(database="postgres"), autocommit=True) as db:
        aside.drop(db, name_before(shop.upgrade))
    with pytest.raises(PreflightError, match=f"the copy {name_before(shop.upgrade)} is gone: somebody dropped it"):
        shop.roll_back()
    for protect, full, said in (
        ("copy", "postgres/data", r"has 0 MB free; the restored database may need \d+ MB"),
        ("dump", "postgres/data", r"has 0 MB free; the restored database may need \d+ MB"),
        ("dump", "home", r"home has 0 MB free, the dump may need \d+ MB"),
        ("dump", "/filestore", r"filestore has 0 MB free, the filestore of before, .* may need \d+ MB"),
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


def killed_and_finished(
    shop: Shop, step: str, before: dict[str, Any], after: dict[str, Any], *, env: dict[str, str]
) -> None:
    """A rollback is killed after a step: one database is live, and whole. The next rollback ends as if it had not."""
    facts = {"odoo_db": shop.database, "upgrade": str(shop.upgrade), "ask": False}
    assert run_killed_after(step, "odoo_upgrade_rollback", facts, env=env), step
    there = databases(shop.postgres)
    assert shop.database in there, step
    live = (shop.versions(), len(shop.execute("SELECT 1 FROM sale_order")))
    swapped = name_broken(shop.upgrade) in there
    whole = before if swapped else after
    assert live == (whole["modules"], len(whole["orders"])), step
    assert not (swapped and name_before(shop.upgrade) in there), step
    if swapped and step in ("swap_databases", "swap_filestores", "all_in_place", "keep_code"):
        with pytest.raises(PreflightError, match=r"is being taken back, and that did not end: .* `ops rollback "):
            shop.site.upgrade()
    told = told_after_kill(shop)
    assert told.endswith("goes on from there" if "stop_odoo" in told else "begins again"), step
    if step in told:
        assert step in told[: told.index("; left: ")], step
    if "; left: " in told:
        kept = f"is the database of before, and that of the upgrade is kept as {name_broken(shop.upgrade)}"
        assert (kept if swapped else "is still the database of the upgrade") in told, step
    shop.roll_back()
    assert shop.seen() == before, step
    assert name_before(shop.upgrade) not in databases(shop.postgres), step
    left = sorted(one.name for one in shop.filestores.iterdir())
    assert left == sorted([shop.database, name_broken(shop.upgrade)]), step


def told_after_kill(shop: Shop) -> str:
    """What the attempt says that the room begins after a kill."""
    facts = {"odoo_db": shop.database, "upgrade": str(shop.upgrade)}
    told = told_by_next_attempt("odoo_upgrade_rollback", facts)
    assert "was killed, and a rollback is not repeated" in told
    return told


def test_rollback_killed_between_database_and_filestore_is_finished_by_the_next_one(
    shop: Shop, prefect_client: dict[str, str]
) -> None:
    before = shop.seen()
    shop.do_upgrade(protect="copy")
    work(shop)
    killed_and_finished(shop, "swap_databases", before, shop.seen(), env=prefect_client)


@pytest.mark.gate
def test_upgrade_killed_after_any_step_leaves_production_as_it_was_or_is_taken_back_by_one_command(
    shop: Shop, prefect_client: dict[str, str]
) -> None:
    before = shop.seen()
    shop.do_upgrade(protect="copy")
    steps = [one for one in shop.steps if one not in ("preflight", "note_versions", "protection_preflight")]
    assert (steps[0], steps[-1]) == ("ask_odoo", "wait_health")
    shop.roll_back()
    facts: dict[str, Any] = {"odoo_db": shop.database, "modules": ["sale"], "repo_dir": str(shop.site.checkout)}
    facts |= {"health_url": shop.site.health, "protect": "copy"}
    for step in steps:
        assert shop.seen() == before, step
        assert run_killed_after(step, "odoo_module_upgrade", facts, env=prefect_client), step
        shop.upgrade = newest_upgrade()
        told = told_by_next_attempt("odoo_module_upgrade", facts)
        if step not in OF_AN_UPGRADED_DATABASE:
            assert shop.seen() == before, step
            assert "was killed, and an upgrade is not repeated" in told
        if step in ("ask_odoo", "note_commit"):  # nothing was changed by then
            with pytest.raises(PreflightError, match="changed nothing: it ended before it looked at its checkout"):
                shop.roll_back()
            continue
        shop.roll_back()
        assert shop.seen() == before, step
    assert "upgrade_modules" in steps
    assert len(steps) > 10


OF_AN_UPGRADED_DATABASE = ("upgrade_modules", "check_modules", "rebuild_assets", "start_odoo", "wait_health")


def newest_upgrade() -> UUID:
    with reading(load_settings()) as db:
        [view] = list_runs(db, kind="odoo_module_upgrade", limit=1)
    return view.run.id


@pytest.mark.gate
@pytest.mark.parametrize("protect", ["dump", "copy"])
def test_rollback_killed_after_any_step_is_finished_by_the_next_one(
    shop: Shop, protect: str, prefect_client: dict[str, str]
) -> None:
    """All steps are found by a whole rollback first, so a new one is among them by itself."""
    before = shop.seen()
    shop.do_upgrade(protect=protect)
    work(shop)
    after = shop.seen()
    shop.steps.clear()
    shop.roll_back()
    steps = [one for one in shop.steps if one not in ("preflight", "count_rows")]
    assert (steps[0], steps[-1]) == ("leftovers of filestore" if protect == "dump" else "stop_odoo", "wait_health")
    for step in steps:
        shop.put_upgrade_back(keep=protect == "copy")
        assert shop.seen() == after, step
        killed_and_finished(shop, step, before, after, env=prefect_client)
    assert len(steps) > (6 if protect == "copy" else 15)
