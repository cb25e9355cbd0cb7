"""Upgrades in a running room that fail or are killed in the middle, and what an operator does then."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deployments.room.postgres import PROGRAMS, EmbeddedPostgres
from opsdb.processes.running import entered
from opsdb.settings import Settings
from tests.acceptance.room.api import Api
from tests.acceptance.room.conftest import pause_schedules
from tests.acceptance.room.desk import Desk
from tests.integration.flows.odoo_sites import Site, git, odoo_site
from tests.support.cluster import copy_cluster
from tests.support.waiting import wait_for

UPGRADED = dict.fromkeys(("sale", "stock"), ("installed", "18.0.2"))


@dataclass
class Shop:
    """A room that operates one Odoo. `programs` are the room's own of PostgreSQL."""

    desk: Desk
    site: Site
    programs: Path

    def upgrade(self) -> dict[str, Any]:
        place = [f"repo_dir={self.site.checkout}", f"health_url={self.site.health}"]
        words = [word for one in ("odoo_db=shop", "modules=sale", *place) for word in ("-p", one)]
        return self.desk.run("odoo_module_upgrade", *words)

    def over(self, run: str, *, attempt: int) -> dict[str, Any]:
        """The run when that attempt of it is over."""

        def shown() -> Any:
            document: dict[str, Any] = self.desk.json("show", run)
            ended = document["status"] in ("succeeded", "failed", "cancelled")
            return document if (document["attempt"], ended) == (attempt, True) else None

        document: dict[str, Any] = wait_for(shown, seconds=180, what=f"attempt {attempt} is over")
        return document

    def at_stop(self, monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> None:
        """Something happens when the service is next stopped."""
        stop, left = self.site.daemon.stop_service, [work]

        def stopping() -> None:
            stop()
            if left:
                left.pop()()

        monkeypatch.setattr(self.site.daemon, "stop_service", stopping)


@pytest.fixture
def shop(own_folder: Path, tmp_path: Path, shared_folder: Path) -> Iterator[Shop]:
    programs, client, files = own_folder / "pg", own_folder / "bin", tmp_path / "filestore"
    for folder in (programs, client, files, files / "shop"):
        folder.mkdir(mode=0o700)
    for name in ("pg_dump", "pg_restore", "pg_dumpall"):
        (programs / name).symlink_to(PROGRAMS / name)
    facts = {"OPS_PG_BIN": str(programs), "OPS_FILESTORE_DIR": str(files)}
    desk = Desk(own_folder / ".ops", {**facts, "PATH": f"{client}:{os.environ['PATH']}"})
    desk.home.mkdir(mode=0o700)
    copy_cluster(shared_folder, EmbeddedPostgres(desk.home / "postgres"))
    try:
        desk.start()
        pause_schedules(Api(desk))
        with desk.database("postgres") as db:
            db.execute("CREATE DATABASE shop TEMPLATE template0")
        with odoo_site(tmp_path, client, database="shop", url=desk.url("shop")) as site:
            yield Shop(desk, site, programs)
    finally:
        desk.stop()


def test_upgrade_whose_protection_failed_upgrades_nothing_until_it_is_tried_again_whole(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, commit = git(shop.site.checkout, "rev-parse", "HEAD"), shop.site.commit("second")
    pg_dump = shop.programs / "pg_dump"

    def fail() -> None:
        pg_dump.unlink()
        pg_dump.write_text('#!/bin/sh\n[ "$1" != --version ] || exec pg_restore --version\necho no dump >&2\nexit 1\n')
        pg_dump.chmod(0o755)

    shop.at_stop(monkeypatch, fail)
    run = shop.upgrade()
    assert run["status"] == "failed"
    assert "no dump" in run["error"]["message"]
    assert (git(shop.site.checkout, "rev-parse", "HEAD"), shop.site.daemon.stopped) == (before, False)
    pg_dump.unlink()
    pg_dump.symlink_to(PROGRAMS / "pg_dump")

    refused = shop.desk.ops("retry", run["id"], "--from-failed", "--wait").refused(2)
    assert refused.endswith(f"`ops retry {run['id'][-8:]}` starts with the first step"), refused
    assert shop.desk.json("show", run["id"])["attempt"] == 1
    assert (shop.site.upgrades(), shop.site.daemon.stopped) == ([], False)

    shop.desk.ops("retry", run["id"], "--wait").fine()
    done = shop.over(run["id"], attempt=2)["result"]
    assert (done["commit_before"], done["commit"]) == (before, commit)
    assert done["protection"].startswith("shop_")
    assert UPGRADED.items() <= shop.site.modules().items()
    [backup] = shop.desk.json("backups", "shop")
    assert backup["good"]


def test_rollback_that_is_killed_is_begun_once_more_by_the_room_which_says_what_is_left(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules, before = shop.site.modules(), git(shop.site.checkout, "rev-parse", "HEAD")
    shop.site.commit("second")
    upgrade = shop.upgrade()
    assert upgrade["status"] == "succeeded", upgrade
    killed: list[UUID] = []

    def kill() -> None:
        [(_, process)] = entered(Settings(home=shop.desk.home))
        killed.append(UUID(process.run_id))
        os.kill(process.pid, signal.SIGKILL)

    shop.at_stop(monkeypatch, kill)
    started = json.loads(shop.desk.ops("rollback", upgrade["id"], "--yes", "--json").fine())
    said = shop.over(started["id"], attempt=2)
    assert [str(one) for one in killed] == [started["id"]]
    told = said["error"]["message"]
    assert said["status"] == "failed"
    assert "was killed, and a rollback is not repeated: done: nothing; left: stop_odoo, code_of_before" in told
    assert "shop is still the database of the upgrade" in told
    assert "ops rollback " in told
    assert [step for step in said["steps"] if step["attempt"] == 2] == [], "it does nothing"
    assert UPGRADED.items() <= shop.site.modules().items()

    shop.desk.ops("rollback", upgrade["id"], "--yes", "--wait").fine()
    assert (shop.site.modules(), git(shop.site.checkout, "rev-parse", "HEAD")) == (modules, before)
    assert not shop.site.daemon.stopped
    assert shop.desk.json("show", started["id"])["attempt"] == 2
