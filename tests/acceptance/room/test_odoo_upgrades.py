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

    @property
    def wanted(self) -> list[str]:
        """The words of an upgrade of `sale`."""
        place = [f"repo_dir={self.site.checkout}", f"health_url={self.site.health}"]
        words = [word for one in ("odoo_db=shop", "modules=sale", *place) for word in ("-p", one)]
        return ["odoo_module_upgrade", *words]

    def upgrade(self) -> dict[str, Any]:
        return self.desk.run(*self.wanted)

    def asks(self, run: str) -> dict[str, Any]:
        """The run when it waits for an approval."""

        def shown() -> Any:
            document: dict[str, Any] = self.desk.json("show", run)
            return document if document["waits_for_approval"] or document["status"] == "failed" else None

        document: dict[str, Any] = wait_for(shown, seconds=120, what="it asks")
        assert document["waits_for_approval"], document
        return document

    def code(self) -> str:
        """The commit that is checked out."""
        return git(self.site.checkout, "rev-parse", "HEAD")

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
def shop(own_folder: Path, tmp_path: Path, shared_folder: Path, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A test may give the room more settings."""
    programs, client, files = own_folder / "pg", own_folder / "bin", tmp_path / "filestore"
    for folder in (programs, client, files, files / "shop"):
        folder.mkdir(mode=0o700)
    for name in ("pg_dump", "pg_restore", "pg_dumpall"):
        (programs / name).symlink_to(PROGRAMS / name)
    facts = {"OPS_PG_BIN": str(programs), "OPS_FILESTORE_DIR": str(files)}
    facts |= getattr(request, "param", {}) | {"PATH": f"{client}:{os.environ['PATH']}"}
    desk = Desk(own_folder / ".ops", facts)
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


@pytest.mark.parametrize("shop", [{"OPS_UPGRADE_APPROVAL": "true"}], indirect=True)
def test_upgrade_that_waits_for_an_approval_has_the_code_of_before_under_odoo(shop: Shop) -> None:
    """An Odoo that is started meanwhile, after a crash for instance, loads what fits its database."""
    before, commit = shop.code(), shop.site.commit("second")
    run = json.loads(shop.desk.ops("run", *shop.wanted, "--json").fine())["id"]
    asked = shop.asks(run)
    assert (shop.code(), git(shop.site.checkout, "status", "--porcelain")) == (before, "")
    shop.desk.ops("cancel", run).fine()
    assert shop.over(run, attempt=asked["attempt"])["status"] == "cancelled"
    assert shop.code() == before

    shop.desk.ops("retry", run).fine()
    asked = shop.asks(run)
    git(shop.site.checkout, "checkout", "-q", "-b", "by_hand")
    git(shop.site.checkout, "commit", "-q", "--allow-empty", "-m", "by hand")
    by_hand = shop.code()
    shop.desk.ops("approve", run).fine()
    said = shop.over(run, attempt=asked["attempt"])
    assert "something else has checked it out while this upgrade waited" in said["error"]["message"]
    assert (shop.code(), shop.site.upgrades(), shop.site.daemon.stopped) == (by_hand, [], False)

    git(shop.site.checkout, "checkout", "-q", "--detach", before)
    shop.desk.ops("retry", run).fine()
    asked = shop.asks(run)
    shop.desk.ops("approve", run).fine()
    done = shop.over(run, attempt=asked["attempt"])
    assert done["status"] == "succeeded", done
    assert (shop.code(), done["result"]["commit_before"]) == (commit, before)
    assert UPGRADED.items() <= shop.site.modules().items()
