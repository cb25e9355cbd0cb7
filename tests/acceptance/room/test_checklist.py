"""The five days of `ops doctor --checklist`, gone through in a real room: each line is open until it is done."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.room.api import Api
from tests.acceptance.room.conftest import save_block
from tests.acceptance.room.desk import Desk, processes_with
from tests.support.mattermost import Mattermost, listening
from tests.support.waiting import wait_for

ALL_DAY = {"interval": 5, "anchor_date": "2026-01-01T00:00:00Z", "timezone": "UTC"}
HERE_ALONE = {"The address of the UI, with TLS", "Runbook odoo_fresh_deploy", "Runbook odoo_module_upgrade"}
"""What this host has no part for: a web server with a certificate, and an Odoo. The firewall is the machine's."""


@pytest.fixture(scope="module")
def new_room(short_folder: Path) -> Iterator[tuple[Desk, Api]]:
    """A room in which nothing has been done, and that writes its alerts to a Mattermost."""
    folder = short_folder / "days"
    (folder / "templates").mkdir(parents=True)
    with listening(Mattermost()) as chat:
        desk = Desk(
            folder / ".ops",
            {
                "OPS_ALERT_URLS": chat.url,
                "OPS_BACKUP_ROOTS": "/tmp",
                "OPS_TEMPLATES": str(folder / "templates"),
            },
        )
        try:
            desk.start()
            yield desk, Api(desk)
        finally:
            desk.stop()


def lines(desk: Desk) -> dict[str, dict[str, Any]]:
    """The checklist, by what each line asks for."""
    answer = desk.ops("doctor", "--checklist", "--json")
    document = json.loads(answer.out)
    assert document["done"] is (answer.code == 0)
    return {line["what"]: line for line in document["lines"]}


def open_lines(desk: Desk) -> set[str]:
    found = lines(desk)
    assert all(line["next"] for line in found.values() if not line["done"])
    return {what for what, line in found.items() if not line["done"]} - {"Firewall"}


@pytest.mark.gate
def test_room_is_taken_through_all_five_days(new_room: tuple[Desk, Api], tmp_path: Path) -> None:
    desk, api = new_room
    proven_by_doing = {
        "A run from end to end",
        "Runbook odoo_db_backup",
        "Backups by schedule",
        "A copy of a backup elsewhere",
        "A backup that was restored",
        "A login for dashboards",
        "Alerts that arrive",
        "A stuck run, tried",
        "The team's own procedures",
    }
    assert open_lines(desk) == HERE_ALONE | proven_by_doing

    with desk.database("postgres") as db:
        db.execute("CREATE DATABASE odoo_days TEMPLATE template0")
    with desk.database("odoo_days") as db:
        db.execute("CREATE TABLE res_partner AS SELECT n AS id FROM generate_series(1, 100) n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    save_block(desk, "backup_target.BackupTarget", "elsewhere", folder=str(elsewhere))
    made = desk.run("odoo_db_backup", "-p", "odoo_db=odoo_days", "-p", "target=elsewhere")
    assert made["status"] == "succeeded", made["error"]
    proven_by_doing -= {"A run from end to end", "Runbook odoo_db_backup", "A copy of a backup elsewhere"}
    assert open_lines(desk) == HERE_ALONE | proven_by_doing

    assert desk.run("odoo_restore_drill", "-p", "odoo_db=odoo_days")["status"] == "succeeded"
    desk.ops("db", "login", "dashboards", "--role", "superset_ro").fine()
    (desk.home.parent / "templates" / "own.yaml").write_text(OWN)
    desk.ops("deploy").fine()
    with api.schedule("nightly_backup/nightly-backup", {"databases": ["odoo_days"]}, **ALL_DAY):
        wait_for(lambda: lines(desk)["Backups by schedule"]["done"], seconds=90, what="a schedule has made a backup")
    kill_run(desk, api.start("own_procedure/own_procedure-lane-c"))
    wait_for(lambda: open_lines(desk) == HERE_ALONE, seconds=90, what="operators were alerted to the run that died")

    shown = desk.ops("doctor", "--checklist", env={"COLUMNS": "160"}).out
    assert f"run {made['short_id']} of odoo_db_backup succeeded" in shown
    assert "dashboards (0 connected)" in shown


def kill_run(desk: Desk, run_id: str) -> None:
    """Kill a run's process once its step runs, as a host out of memory does."""
    wait_for(lambda: len(processes_with(f"OPS_RUN_ID={run_id}")) > 0, seconds=60, what="its step runs")
    os.kill(json.loads((desk.home / "running" / f"{run_id}.json").read_text())["pid"], signal.SIGKILL)


def test_checklist_has_no_companions(desk: Desk) -> None:
    assert "--checklist" in desk.ops("doctor", "--checklist", "--all").refused(2)
    assert lines(desk)["A worker for each lane"]["done"]


OWN = """\
kind: own_procedure
description: What this team does on Mondays.
steps:
  - name: take_time
    command: sleep 600
    timeout: 700
"""
