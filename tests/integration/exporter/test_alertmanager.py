"""What operators read in Mattermost: the exporter, a real Prometheus, a real Alertmanager, with the files that we ship.

The rules do not wait, and Alertmanager waits a second; all else is as an operator has it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from opsdb.settings import Settings
from tests.integration.exporter.conftest import Insert
from tests.support.alertmanager import impatient_rules, sending
from tests.support.children import child, free_port
from tests.support.mattermost import Mattermost, listening
from tests.support.prometheus import ROOT, scraping
from tests.support.waiting import wait_for

pytestmark = pytest.mark.gate
HOUR = 3600
DOCS = "https://git.example.org/ops/ops-control-room/src/branch/main/docs/prometheus-alerts.md"
GRAFANA = "https://grafana.example.org/d"
WHEN = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
LAST = "now() + interval '1 hour'"  # of a part that works, for as long as a test takes


class Watched:
    """A room's exporter, and what arrives in Mattermost."""

    def __init__(self, settings: Settings, folder: Path, chat: Mattermost, stack: ExitStack) -> None:
        self.chat, self.port, self._stack = chat, free_port(), stack
        self._settings, self._folder = settings, folder
        self.exporter = self.start_exporter()

    def start_exporter(self) -> subprocess.Popen[bytes]:
        """Start the exporter as a process, which lives until the end of the test at most."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OPS_", "PREFECT_"))}
        ours = {"OPS_HOME": str(self._settings.home), "OPS_DATABASE_URL": self._settings.ops_url}
        env = clean | ours | {"OPS_EXPORTER_PORT": str(self.port), "PYTHONPATH": str(ROOT)}
        argv = [sys.executable, "-m", "exporter.metrics"]
        process = self._stack.enter_context(child(argv, env, self._folder / "exporter.log"))
        wait_for(self._answers, seconds=60, what="the exporter answers")
        return process

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/-/ready", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def messages(self, about: str = "") -> list[dict[str, str]]:
        """Title, text and colour of each message whose title has that in it."""
        found: list[dict[str, str]] = [one for post in list(self.chat.posts) for one in post["attachments"]]
        return [one for one in found if about in one["title"]]

    def titles(self) -> set[str]:
        """The titles of all messages."""
        return {one["title"] for one in self.messages()}

    def wait(self, about: str) -> dict[str, str]:
        """The first message whose title has that in it."""
        return wait_for(lambda: self.messages(about), seconds=60, what=f"the message {about!r}")[0]


@pytest.fixture
def watched(settings: Settings, db: psycopg.Connection[Any], insert: Insert, tmp_path: Path) -> Iterator[Watched]:
    """A room in which all is well."""
    db.execute(
        "INSERT INTO ops.workers (name, lane, host, heartbeat_at) "
        f"SELECT 'w', lane, 'h', {LAST} FROM unnest(enum_range(NULL::ops.lane_type)) lane"
    )
    db.execute(
        "INSERT INTO ops.sync_marks (name, at, updated_at) "
        f"SELECT mark, now(), {LAST} FROM unnest(ARRAY['sync', 'alerts', 'totals']) mark"
    )
    insert("odoo_db_backup", "A", "succeeded", params='{"odoo_db": "odoo_prod"}', finished=HOUR)
    with ExitStack() as stack:
        chat = stack.enter_context(listening(Mattermost()))
        room = Watched(settings, tmp_path, chat, stack)  # before Prometheus, which would miss the exporter
        alertmanager, rules = stack.enter_context(sending(chat.port, tmp_path)), impatient_rules(tmp_path)
        target = f"127.0.0.1:{room.port}"
        stack.enter_context(scraping(target, tmp_path, alertmanager=alertmanager, rules=rules))
        yield room


def test_what_breaks_arrives_with_links_and_so_does_its_end(
    watched: Watched, db: psycopg.Connection[Any], insert: Insert
) -> None:
    db.execute("DELETE FROM ops.workers WHERE lane = 'C'")
    insert("odoo_db_backup", "A", "succeeded", params='{"odoo_db": "@all"}', finished=27 * HOUR)
    lane = watched.wait("🚨 No worker serves a lane · lane C")
    backup = watched.wait("🚨 No fresh backup of a database · database @\u200ball")
    db.execute(f"INSERT INTO ops.workers (name, lane, host, heartbeat_at) VALUES ('w', 'C', 'h', {LAST})")
    insert("odoo_db_backup", "A", "succeeded", params='{"odoo_db": "@all"}', finished=60)
    served = watched.wait("✅ Resolved: No worker serves a lane · lane C")
    fresh = watched.wait("✅ Resolved: No fresh backup of a database · database @\u200ball")
    assert re.fullmatch(
        "No worker has asked lane C for runs of late, so nothing starts there. Look with `ops status` whether the part "
        rf"worker is ready on its host.\nSince {WHEN} UTC, \[dashboard\]\({GRAFANA}/ops-lanes\?var-lane=C\)\n\n"
        rf"\[What to do\]\({DOCS}#opslanewithoutworker\)",
        lane["text"],
    )
    assert "backup of @\u200ball is 1d 3h 0m" in backup["text"]  # a name in it mentions nobody
    assert f"[dashboard]({GRAFANA}/ops-backups?var-database=%40all)" in backup["text"]
    assert f"[What to do]({DOCS}#opsbackuptooold)" in backup["text"]
    assert re.fullmatch(f"lane C, from {WHEN} to {WHEN} UTC", served["text"].strip())
    assert re.fullmatch(f"database @\u200ball, from {WHEN} to {WHEN} UTC", fresh["text"].strip())
    assert [one["color"] for one in (lane, backup, served, fresh)] == ["danger", "danger", "good", "good"]
    assert watched.titles() == {one["title"] for one in (lane, backup, served, fresh)}  # a room that is well is silent


def test_nothing_is_over_because_the_exporter_was_killed(watched: Watched, db: psycopg.Connection[Any]) -> None:
    behind, down = "The room does not hear from Prefect", "No exporter answers, nobody watches the room"
    db.execute("UPDATE ops.sync_marks SET updated_at = now() - interval '3 minutes' WHERE name = 'sync'")
    watched.wait(f"🚨 {behind}")
    watched.exporter.kill()
    watched.wait(f"🚨 {down}")
    watched.exporter = watched.start_exporter()
    watched.wait(f"✅ Resolved: {down}")
    assert watched.titles() == {f"🚨 {behind}", f"🚨 {down}", f"✅ Resolved: {down}"}
    db.execute(f"UPDATE ops.sync_marks SET updated_at = {LAST} WHERE name = 'sync'")
    watched.wait(f"✅ Resolved: {behind}")
    assert len(watched.messages(behind)) == 2


def test_end_of_an_alert_about_runs_is_not_green(watched: Watched, db: psycopg.Connection[Any], insert: Insert) -> None:
    insert("odoo_db_backup", "B", "running", started=HOUR, heartbeat=HOUR)
    watched.wait("🚨 Stuck runs are not ended · kind odoo_db_backup · lane B")
    db.execute("UPDATE ops.runs SET status = 'failed', finished_at = now() WHERE status = 'running'")
    over = watched.wait("⚪ Over: Stuck runs are not ended · kind odoo_db_backup · lane B")
    assert over["color"] == "#808080"


def test_part_that_the_exporter_cannot_read_is_no_database_that_is_away(
    watched: Watched, db: psycopg.Connection[Any]
) -> None:
    db.execute("ALTER TABLE ops.workers RENAME TO not_here")  # as for an exporter that is newer than the schema
    watched.wait("⚠️ A part of the metrics is missing · collector parts")
    db.execute("ALTER TABLE ops.not_here RENAME TO workers")
    watched.wait("✅ Resolved: A part of the metrics is missing · collector parts")
    assert len(watched.titles()) == 2


def test_many_alerts_are_one_message_with_ten_of_them(
    watched: Watched, db: psycopg.Connection[Any], insert: Insert
) -> None:
    for number in range(12):
        params = f'{{"odoo_db": "odoo_{number}"}}'
        insert("odoo_db_backup", "A", "succeeded", params=params, finished=27 * HOUR)
    message = watched.wait("🚨 No fresh backup of a database")
    assert message["text"].count("The last verified backup of odoo_") == 10
    assert "\n\n12 firing and 0 resolved in all.\n\n[What to do]" in message["text"]
    assert message["title"] == "🚨 No fresh backup of a database"
