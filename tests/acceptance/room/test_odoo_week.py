"""docs/odoo.md, command by command and day by day, in a room that operates two real Odoos."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deployments.room.postgres import EmbeddedPostgres
from tests.acceptance.room.api import Api
from tests.acceptance.room.conftest import pause_schedules, save_block
from tests.acceptance.room.desk import Desk
from tests.integration.flows.odoo.real_sites import RealSite, Team, real_site
from tests.integration.flows.odoo_sites import git
from tests.support.cluster import copy_cluster
from tests.support.commands import REPOSITORY
from tests.support.documents import shell_lines
from tests.support.real_odoo import RealOdoo, copy_template, make_role, make_template, needs_odoo
from tests.support.waiting import wait_for

DAY = re.compile(r"^## (\w+)[^\n]*\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
DAYS = dict(DAY.findall((REPOSITORY / "docs" / "odoo.md").read_text()))
DOCKER = """#!/bin/bash
case "$PWD" in
  {prod}/*) exec {prod}/docker "$@" ;;
  {staging}/*) exec {staging}/docker "$@" ;;
esac
echo "no container belongs to $PWD" >&2
exit 1
"""


@dataclass
class Host:
    """A host with a room, the filestores of its Odoos, and a second place for backups that outlives it."""

    desk: Desk
    data: Path
    places: dict[str, Path]
    """The paths and files that the page names, and what they are here."""

    def live(self, day: str) -> None:
        """Type all commands of a day. Each must succeed; what it started is over, or asks, before the next one."""
        for line in shell_lines(DAYS[day]):
            text = line
            for place, here in self.places.items():
                text = text.replace(place, str(here))
            self._type(text)

    def _type(self, line: str) -> None:
        env = {**self.desk.env, "PATH": f"{REPOSITORY}/.venv/bin:{self.desk.env['PATH']}", "COLUMNS": "200"}
        words = ["bash", "-euc", line]
        folder = self.desk.home.parent
        done = subprocess.run(words, env=env, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, (line, done.stdout[-3000:], done.stderr[-2000:])
        wait_for(self._at_rest, seconds=600, what=f"what was started by: {line}")

    def _at_rest(self) -> bool:
        over = ("succeeded", "failed", "cancelled")
        newest = self.desk.json("runs", "--limit", "3")
        return all(run["waits_for_approval"] or run["status"] in over for run in newest)

    def last(self, kind: str) -> dict[str, Any]:
        """The newest run of a kind, which succeeded."""
        [run] = self.desk.json("runs", "--kind", kind, "--limit", "1")
        document: dict[str, Any] = self.desk.json("show", run["id"])
        assert document["status"] == "succeeded", document
        return document


@dataclass
class Week:
    """The host, and the two Odoos on it."""

    host: Host
    prod: RealSite
    staging: RealSite
    another_host: Callable[[], Host]
    lived: list[str] = field(default_factory=list)

    def live(self, day: str, host: Host | None = None) -> None:
        (host or self.host).live(day)
        self.lived.append(day)


@pytest.fixture
def another_host(own_folder: Path, tmp_path: Path, shared_folder: Path) -> Iterator[Callable[[], Host]]:
    """Starts a room on what might be a host of its own, whose PostgreSQL has Odoo's role."""
    needs_odoo()
    safe, target = own_folder / "safe", own_folder / "target"
    for folder in (safe, target):
        folder.mkdir(mode=0o700)
    numbers = itertools.count(1)
    with ExitStack() as stack:

        def start() -> Host:
            number = next(numbers)
            home, data = own_folder / str(number) / ".ops", tmp_path / f"data{number}"
            (data / "filestore").mkdir(parents=True)
            settings = {"OPS_FILESTORE_DIR": str(data / "filestore"), "OPS_UPGRADE_APPROVAL": "true"}
            desk = Desk(home, {**settings, "PATH": f"{own_folder}/bin:{os.environ['PATH']}"})
            home.mkdir(mode=0o700, parents=True)
            copy_cluster(shared_folder, EmbeddedPostgres(home / "postgres"))
            stack.callback(desk.stop)
            desk.start()
            pause_schedules(Api(desk))
            make_role(desk.url("{database}"))
            save_block(desk, "backup_target.BackupTarget", "spaces", folder=str(target))
            return Host(desk, data, {"/some/safe/place": safe, "/opt/odoo/data/filestore": data / "filestore"})

        yield start


@pytest.fixture
def week(another_host: Callable[[], Host], own_folder: Path, tmp_path: Path) -> Iterator[Week]:
    """A room with two sites: one is the shop, the other an old copy."""
    prod, staging, programs = own_folder / "prod", own_folder / "staging", own_folder / "bin"
    for folder in (prod, staging, programs):
        folder.mkdir(mode=0o711)
    (programs / "docker").write_text(DOCKER.format(prod=prod, staging=staging))
    (programs / "docker").chmod(0o755)
    host = another_host()
    postgres = host.desk.url("{database}")
    make_template(own_folder / "template", postgres, "sale_management")
    team = Team.of(tmp_path)
    team.publish("18.0.1.0.0")
    sites = []
    with ExitStack() as stack:
        for folder in (prod, staging):
            facts = {"postgres": postgres, "database": f"odoo_{folder.name}", "data": host.data}
            site = stack.enter_context(real_site(team, folder, folder, facts))
            copy_template(own_folder / "template", site.odoo)
            save_block(host.desk, "odoo_host.OdooHost", folder.name, **site.place)
            sites.append(site)
        sites[0].odoo.run("-d", "odoo_prod", "-i", "shop_extras", "--stop-after-init", "--no-http")
        sites[1].odoo.run("neutralize", "-d", "odoo_staging")
        for site in sites:
            site.odoo.start()
        yield Week(host, sites[0], sites[1], another_host)


def order(odoo: RealOdoo, customer: str) -> None:
    partner = odoo.call("res.partner", "create", {"name": customer})
    odoo.call("sale.order", "create", {"partner_id": partner})


def customers(odoo: RealOdoo) -> set[str]:
    """Who ordered something."""
    return {one["partner_id"][1] for one in odoo.call("sale.order", "search_read", [], ["partner_id"])}


def version(odoo: RealOdoo) -> str:
    [module] = odoo.call("ir.module.module", "search_read", [["name", "=", "shop_extras"]], ["latest_version"])
    return str(module["latest_version"])


@pytest.mark.timeout(3600)  # on a machine with other work to do
def test_week(week: Week, tmp_path: Path) -> None:
    """What a day was for is looked at when its commands were typed; no day of the page is left out."""
    host, prod, staging = week.host, week.prod.odoo, week.staging.odoo
    week.live("Before")

    order(prod, "Monday's")
    week.live("Monday")
    [backup] = host.desk.json("backups", "odoo_prod")
    assert (backup["good"], len(backup["copies"])) == (True, 1)
    assert backup["restored_by_run"] == host.last("odoo_restore_drill")["id"]

    week.live("Tuesday")
    assert (customers(staging), version(staging)) == ({"Monday's"}, "18.0.1.0.0")
    assert len(staging.call("ir.cron", "search", [])) == 1
    assert len(prod.call("ir.cron", "search", [])) > 1

    week.prod.team.publish("18.0.2.0.0")
    week.live("Wednesday")
    host.last("odoo_module_upgrade")
    assert (version(staging), version(prod)) == ("18.0.2.0.0", "18.0.1.0.0")

    commit = git(week.prod.checkout, "rev-parse", "HEAD")
    order(prod, "Wednesday's")
    week.live("Thursday")
    assert host.last("odoo_module_upgrade")["params"]["odoo_db"] == "odoo_prod"
    assert version(prod) == "18.0.2.0.0"

    order(prod, "Thursday's")
    week.live("Friday")
    assert any(
        one.startswith("sale_order (+1") for one in host.last("odoo_upgrade_rollback")["result"]["written_since"]
    )
    assert (version(prod), git(week.prod.checkout, "rev-parse", "HEAD")) == ("18.0.1.0.0", commit)
    assert customers(prod) == {"Monday's", "Wednesday's"}

    prod.stop()
    staging.stop()
    new = week.another_host()
    new.places["odoo_prod_20260301T020000Z.dump"] = Path(backup["file"])
    week.live("Weekend", new)
    assert new.last("odoo_db_restore")["result"]["backup"] == backup["file"]
    again = RealOdoo(tmp_path / "again", new.desk.url("{database}"), "odoo_prod", prod.addons, new.data)
    again.start()
    try:
        assert (customers(again), version(again)) == ({"Monday's"}, "18.0.1.0.0")
    finally:
        again.stop()
    assert week.lived == list(DAYS)
