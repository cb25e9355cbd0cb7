"""Copies of a room's backups: made by its runs, told by its commands, and restored when the folder is lost."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.acceptance.room.desk import Desk
from tests.support.waiting import wait_for


@pytest.fixture
def target(save_target: Callable[..., str], tmp_path: Path) -> str:
    """The name of a block that leads to a folder."""
    folder = tmp_path / "disk"
    folder.mkdir(mode=0o700)
    return save_target("second-disk", folder=str(folder))


def test_copy_is_made_told_and_restored(desk: Desk, database: str, target: str, tmp_path: Path) -> None:
    made = desk.run("odoo_db_backup", "-p", f"odoo_db={database}", "-p", f"target={target}")
    assert made["status"] == "succeeded", made
    url = made["result"]["target"]["url"]
    assert url == (tmp_path / "disk" / Path(made["result"]["file"]).name).as_uri()
    links = [one for one in desk.json("show", made["id"])["artifacts"] if one["kind"] == "link"]
    assert [(one["content_url"], one["sha256"]) for one in links] == [(url, made["result"]["sha256"])]

    (listed,) = (one for one in desk.json("backups", database) if one["made_by_run"] == made["id"])
    (copy,) = listed["copies"]
    assert (copy["target"], copy["url"], copy["verified_by_run"]) == (target, url, made["id"])
    (there,) = desk.json("backups", database, "--target", target, "--check")
    assert (there["path"], there["good"], there["bytes_checked"]) == (url, True, True)
    assert "no Backup Target block" in desk.ops("backups", "--target", "not-there").refused(2)

    empty = tmp_path / "empty"
    drill = desk.run(
        "odoo_restore_drill", "-p", f"odoo_db={database}", "-p", f"target={target}", "-p", f"backup_dir={empty}"
    )
    assert drill["status"] == "succeeded", drill
    assert drill["result"]["backup"] == there["file"]
    assert list(empty.iterdir()) == []


def figure(desk: Desk, series: str) -> float:
    """What the exporter says."""
    said = httpx.get(f"http://127.0.0.1:{desk.ports[2]}/metrics", trust_env=False, timeout=20).text
    found = re.search(rf"^{re.escape(series)} (\S+)$", said, re.MULTILINE)
    assert found, (series, said)
    return float(found[1])


def lasting(desk: Desk, rule: str, subject: str) -> list[int]:
    """The alerts of a rule about that subject."""
    with desk.database("ops") as db:
        rows = db.execute(
            "SELECT id FROM ops.alert_episodes WHERE rule = %s AND subject = %s AND resolved_at IS NULL",
            [rule, subject],
        )
        return [row[0] for row in rows]


def test_run_whose_copy_fails_is_no_success_and_leaves_age_and_alert_as_they_are(
    desk: Desk, database: str, target: str, tmp_path: Path
) -> None:
    order = ("odoo_db_backup", "-p", f"odoo_db={database}", "-p", f"target={target}")
    age = f'ops_backup_last_success_timestamp_seconds{{database="{database}"}}'
    failures = 'ops_runs_finished_total{kind="odoo_db_backup",lane="A",outcome="failed"}'
    good = desk.run(*order, "--lane", "A")
    assert good["status"] == "succeeded", good
    with desk.database("ops") as db:  # it was yesterday
        db.execute(
            "UPDATE ops.runs SET finished_at = finished_at - interval '27 h', outcome_at = outcome_at - interval '27 h'"
            " WHERE id = %s",
            [good["id"]],
        )
    alert = wait_for(lambda: lasting(desk, "backup", database), seconds=30, what="the old backup is told")
    before, failed = figure(desk, age), figure(desk, failures)

    (tmp_path / "disk").rename(tmp_path / "elsewhere")
    run = desk.run(*order, "--lane", "A")
    assert run["status"] == "failed"
    assert "is the disk mounted" in run["error"]["message"]
    wait_for(lambda: lasting(desk, "failed", f"{run['id']}/1"), seconds=90, what="the failure is told")
    wait_for(lambda: figure(desk, failures) == failed + 1, seconds=20, what="the failure is counted")
    time.sleep(3)  # the alerter looks each second
    assert figure(desk, age) == before
    assert lasting(desk, "backup", database) == alert
    dumps = {path.name for path in (desk.home / "backups").glob(f"{database}_*.dump")}
    assert len(dumps) == 2

    (tmp_path / "elsewhere").rename(tmp_path / "disk")
    refused = desk.ops("retry", run["id"], "--from-failed").refused(2)
    assert "step 3, reserve, succeeded and must run again all the same" in refused
    desk.ops("retry", run["id"], "--wait", timeout=120).fine()
    (missed,) = desk.json("show", run["id"])["result"]["target"]["caught_up"]
    listed = desk.json("backups", database)
    copies = {one["file"]: [copy["verified_by_run"] for copy in one["copies"]] for one in listed}
    assert len(copies) == 3
    assert copies.pop(Path(good["result"]["file"]).name) == [good["id"]]
    assert copies.pop(missed.rpartition("/")[2]) == [run["id"]]
    assert list(copies.values()) == [[run["id"]]]
    wait_for(lambda: figure(desk, age) > before + 26 * 3600, seconds=20, what="the backup is fresh")
    wait_for(lambda: not lasting(desk, "backup", database), seconds=30, what="so the alert is over")
