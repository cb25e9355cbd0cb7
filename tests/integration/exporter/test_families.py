"""What the metrics say of runs, against a real PostgreSQL."""

from __future__ import annotations

import math
import re
import subprocess
import time
from typing import Any

import psycopg
import pytest

from exporter.metrics.collector import Room
from exporter.metrics.scrape import COLLECTORS, SESSION
from opsdb.database import PatientConnection, connect
from opsdb.runs.workers import write_worker_heartbeat
from opsdb.settings import Settings
from opsdb.tables import Lane
from tests.integration.exporter.conftest import Insert, Served, serving
from tests.support.families import FAMILIES
from tests.support.programs import program

WANTED = {family.name.removesuffix("_total"): (family.type, set(family.labels)) for family in FAMILIES}


@pytest.fixture
def busy(insert: Insert, db: psycopg.Connection[Any]) -> None:
    """A room in which something of everything happened."""
    insert("deploy", "A", "succeeded", count=3, started=90, finished=50, heartbeat=51)
    insert("deploy", "A", "failed", started=99, finished=98)
    insert("deploy", "B", "cancelled", finished=10)
    insert("deploy", "B", "queued", count=2, created=70)
    insert("deploy", "B", "queued", created=10_000, attempt=2)  # which waits for an approval, and for no slot
    insert("deploy", "B", "queued", created=10_000, attempt=3)  # which waits by its own choice, and for no slot
    db.execute(
        "INSERT INTO ops.run_states (id, run_id, at, type, name) "
        "SELECT state_id, id, now(), 'PAUSED', 'Suspended' FROM ops.runs WHERE attempt = 2"
    )
    insert("deploy", "B", "queued", created=10_000, attempt=4)  # which waits for its turn after that
    db.execute(
        "INSERT INTO ops.run_states (id, run_id, at, type, name) "
        "SELECT state_id, id, now(), 'SCHEDULED', 'Late' FROM ops.runs WHERE attempt = 4"
    )
    db.execute(
        "INSERT INTO ops.run_states (id, run_id, at, type, name, message) SELECT state_id, id, now(), 'SCHEDULED', "
        "'Scheduled', 'waits until 2026-11-30 02:15:00 UTC: one failed' FROM ops.runs WHERE attempt = 3"
    )
    insert("deploy", "B", "claimed", claimed=5, heartbeat=5)
    insert("deploy", "B", "running", count=4, started=60, heartbeat=2)
    insert("deploy", "B", "running", started=600, heartbeat=500)
    for ago, size in ((9000, 111), (4000, 222)):
        made = {"params": '{"odoo_db": "prod"}', "result": f'{{"size_bytes": {size}}}'}
        insert("odoo_db_backup", "D", "succeeded", started=ago + 1, finished=ago, **made)
    insert("odoo_db_backup", "D", "failed", started=9, finished=8, params='{"odoo_db": "other"}')
    db.execute(
        "INSERT INTO ops.sync_marks (name, at, updated_at) "
        "VALUES ('sync', '2020-01-01', now()), ('totals', '2020-01-01', now())"
    )
    db.execute("INSERT INTO ops.workers (name, lane, host) VALUES ('a-1', 'A', 'a'), ('b-2', 'A', 'b')")
    db.execute("UPDATE ops.prunes SET finished_at = now() - interval '9 hours'")
    db.execute(
        "INSERT INTO ops.prunes (started_by, finished_at) "
        "VALUES ('room', now() - interval '2 hours'), ('room', NULL), ('person', now())"
    )
    db.execute("INSERT INTO ops.lane_limits (lane, slots) VALUES ('A', 0), ('C', NULL), ('D', 2)")
    db.execute(
        "INSERT INTO ops.schedule_plans (id, deployment, name, expression, active, planned_at, fault, unplanned_since) "
        "VALUES (gen_random_uuid(), 'n/n', 'good', 'x', true, '2030-01-01 00:00Z', NULL, NULL), "
        "(gen_random_uuid(), 'n/n', 'leap', 'x', false, NULL, 'never fires', NULL), "
        "(gen_random_uuid(), 'n/n', 'lost', 'x', true, NULL, NULL, now()), "
        "(gen_random_uuid(), 'n/n', 'paused', 'x', false, NULL, NULL, NULL)"
    )
    db.execute(
        "INSERT INTO ops.workers (name, lane, host, heartbeat_at) VALUES ('c-1', 'A', 'c', now() - interval '1 minute')"
    )


@pytest.mark.usefixtures("busy")
def test_families_have_the_types_and_labels_that_were_promised(served: Served) -> None:
    families = served.scrape().families
    shown = {
        name: (family.type, {key for sample in family.samples for key in sample.labels} - {"le"})
        for name, family in families.items()
    }
    assert shown == WANTED


@pytest.mark.usefixtures("busy")
def test_values_are_those_of_the_room(served: Served) -> None:
    said = served.scrape()
    now = time.time()
    deploy = {"kind": "deploy", "lane": "B"}
    assert said("ops_up") == 1
    statuses = ("queued", "suspended", "postponed", "claimed", "running")
    assert [said("ops_runs", **deploy, status=status) for status in statuses] == [2, 1, 2, 1, 5]
    assert said("ops_runs", kind="deploy", lane="A", status="running") == 0
    assert said("ops_runs_stuck", **deploy) == 1
    assert said("ops_lane_slots", lane="B") == 3  # as the room's settings say, where nobody has asked Prefect
    assert [said("ops_lane_slots", lane=lane) for lane in "ACD"] == [0, math.inf, 2]
    named = {"deployment": "n/n"}
    assert [said("ops_schedule_planned", **named, schedule=name) for name in ("good", "leap", "lost")] == [1, 0, 0]
    assert said("ops_prune_last_end_timestamp_seconds") == pytest.approx(now - 7200, abs=60)
    assert said("ops_lane_slots_used", lane="B") == 6
    assert said("ops_workers", lane="A") == 2
    assert said("ops_workers", lane="B") == 0
    assert said("ops_runs_created_total", **deploy) == 12
    assert said("ops_runs_finished_total", kind="deploy", lane="A", outcome="succeeded") == 3
    assert said("ops_runs_finished_total", kind="deploy", lane="A", outcome="failed") == 1
    assert said("ops_run_duration_seconds_bucket", kind="deploy", lane="A", le="30.0") == 1
    assert said("ops_run_duration_seconds_bucket", kind="deploy", lane="A", le="60.0") == 4
    assert said("ops_run_duration_seconds_bucket", kind="deploy", lane="A", le="+Inf") == 4
    assert said("ops_run_duration_seconds_count", kind="deploy", lane="A") == 4
    assert said("ops_run_duration_seconds_sum", kind="deploy", lane="A") == pytest.approx(121)
    assert said("ops_run_queue_wait_seconds_bucket", lane="A", le="1.0") == 1
    assert said("ops_run_queue_wait_seconds_bucket", lane="A", le="10.0") == 4
    assert said("ops_backup_size_bytes", database="prod") == 222
    for name, labels, ago in (
        ("ops_runs_oldest_heartbeat_timestamp_seconds", deploy, 500),
        ("ops_runs_oldest_start_timestamp_seconds", deploy | {"status": "running"}, 600),
        ("ops_runs_oldest_start_timestamp_seconds", deploy | {"status": "claimed"}, 5),
        ("ops_runs_oldest_start_timestamp_seconds", deploy | {"status": "queued"}, 70),
        ("ops_run_last_success_timestamp_seconds", {"kind": "deploy", "lane": "A"}, 50),
        ("ops_backup_last_success_timestamp_seconds", {"database": "prod"}, 4000),
        ("ops_sync_last_event_timestamp_seconds", {}, 0),
        ("ops_totals_last_fold_timestamp_seconds", {}, 0),
    ):
        assert said(name, **labels) == pytest.approx(now - ago, abs=30), name
    for name, labels in (
        ("ops_backup_last_success_timestamp_seconds", {"database": "other"}),
        ("ops_run_last_success_timestamp_seconds", deploy),
        ("ops_runs_oldest_heartbeat_timestamp_seconds", {"kind": "deploy", "lane": "A"}),
    ):
        assert said(name, **labels) is None


def test_nights_are_those_of_the_view_and_the_objective_that_of_the_settings(
    settings: Settings, insert: Insert, db: psycopg.Connection[Any]
) -> None:
    for night in range(5):
        hours = 24 * night + 25
        insert(
            "odoo_db_backup",
            "A",
            "succeeded" if night != 2 else "failed",
            params='{"odoo_db": "prod"}',
            created=hours * 3600 + 60,
            finished=hours * 3600,
        )
    insert("odoo_db_backup", "A", "failed", params='{"odoo_db": "never"}', created=3600, finished=3590)
    with serving(settings, Room(backup_objective=25)) as served:
        said = served.scrape()
    rows = db.execute("SELECT database, fresh_nights, nights FROM ops.backup_nights").fetchall()
    assert [name for name, _, _ in rows] == ["never", "prod"]
    for name, fresh, judged in rows:
        assert said("ops_backup_fresh_nights", database=name) == fresh
        assert said("ops_backup_judged_nights", database=name) == judged
    assert {name: judged for name, _, judged in rows}["prod"] in (5, 6)
    assert said("ops_backup_last_success_timestamp_seconds", database="never") is None
    assert said("ops_backup_objective_nights") == 25


def test_failed_backup_that_somebody_set_to_completed_is_no_success(insert: Insert, served: Served) -> None:
    of_prod = {"params": '{"odoo_db": "prod"}'}
    insert("odoo_db_backup", "A", "succeeded", finished=9000, **of_prod)
    insert("odoo_db_backup", "A", "succeeded", finished=10, outcome="failed", **of_prod)
    said = served.scrape()
    at = said("ops_backup_last_success_timestamp_seconds", database="prod")
    assert at == pytest.approx(time.time() - 9000, abs=30)


def test_registered_kind_is_there_at_zero_before_its_first_run(served: Served) -> None:
    said = served.scrape()
    for lane in "ABCD":
        for outcome in ("succeeded", "failed", "cancelled"):
            assert said("ops_runs_finished_total", kind="never_run", lane=lane, outcome=outcome) == 0
        assert said("ops_run_duration_seconds_count", kind="never_run", lane=lane) == 0
        assert said("ops_runs", kind="never_run", lane=lane, status="queued") == 0


def test_number_of_series_does_not_depend_on_the_number_of_runs(served: Served, insert: Insert) -> None:
    for status in ("queued", "running"):
        insert("deploy", "A", status, started=5, heartbeat=1)
    insert("deploy", "A", "succeeded", started=90, finished=50)
    few = len(served.scrape())
    for status in ("queued", "running"):
        insert("deploy", "A", status, count=700, started=5, heartbeat=1)
    insert("deploy", "A", "succeeded", count=1500, started=90, finished=50)
    assert len(served.scrape()) == few


def test_hostile_kind_stays_one_label(served: Served, insert: Insert) -> None:
    kind = 'a"} 1\nops_up 0\n\\'
    insert(kind, "A", "queued")
    said = served.scrape()
    assert said("ops_runs", kind=kind, lane="A", status="queued") == 1
    assert said("ops_up") == 1


@pytest.mark.usefixtures("busy")
def test_promtool_has_nothing_to_say(served: Served) -> None:
    promtool = program("promtool", package="prometheus")
    for text in (served.get().text, "not a metric\n"):
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        good = done.returncode == 0 and not (done.stdout + done.stderr).strip()
        assert good is text.startswith("# HELP"), done.stdout + done.stderr


@pytest.mark.usefixtures("busy")
def test_openmetrics_is_spoken_to_who_asks_for_it(served: Served) -> None:
    answer = served.get(Accept="application/openmetrics-text;version=1.0.0")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")


def test_a_scrape_is_five_statements_at_most(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    execute = PatientConnection.execute

    def counted(self: PatientConnection, query: Any, *arguments: Any, **named: Any) -> Any:
        asked.append(query)
        return execute(self, query, *arguments, **named)

    monkeypatch.setattr(PatientConnection, "execute", counted)
    assert served.scrape()("ops_up") == 1
    assert asked == [collector.sql for collector in COLLECTORS]
    assert len(asked) <= 5


@pytest.mark.parametrize("analyzed", [True, False], ids=["with statistics", "without"])
@pytest.mark.parametrize(("finished", "active"), [(20_000, 50), (20, 5)], ids=["long history", "short history"])
def test_no_statement_scans_the_history(
    insert: Insert, db: psycopg.Connection[Any], analyzed: bool, finished: int, active: int
) -> None:
    prod = '{"odoo_db": "prod"}'
    insert("odoo_db_backup", "A", "succeeded", count=finished, started=90, finished=50, params=prod)
    insert("odoo_db_backup", "A", "failed", count=3, started=90, finished=50, params='{"odoo_db": "never"}')
    insert("deploy", "A", "running", count=active, started=5, heartbeat=1)
    if analyzed:
        db.execute("ANALYZE ops.runs")
    options = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
    with psycopg.connect(db.info.dsn, options=options, autocommit=True) as reader:
        for collector in COLLECTORS:
            rows = reader.execute(
                "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) " + collector.sql, {"lost_seconds": 30}
            ).fetchall()
            plan = "\n".join(row[0] for row in rows)
            assert "Seq Scan on runs" not in plan, plan
            read = [float(rows) for rows in re.findall(r"Scan\b.* on runs.*\(actual rows=([\d.]+)", plan)]
            assert max(read, default=0) <= active, plan  # nor the whole history by an index


def test_who_holds_a_lock_of_the_room_is_a_label(settings: Settings, served: Served) -> None:
    assert served.scrape()("ops_lock_held", lock="alerter", role="") == 0
    with psycopg.connect(settings.ops_url) as holder:
        holder.execute("SELECT * FROM ops.room_locks WHERE name = 'alerter' FOR UPDATE")
        said = served.scrape()
        assert said("ops_lock_held", lock="alerter", role="postgres") == 1
        assert said("ops_lock_held", lock="alerter", role="") is None
        assert said("ops_lock_held", lock="totals", role="") == 0
    assert served.scrape()("ops_lock_held", lock="alerter", role="") == 0


def test_the_reader_is_read_only_and_ops_monitor(settings: Settings, served: Served) -> None:
    served.scrape()
    options = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
    with psycopg.connect(settings.ops_url, options=options, autocommit=True) as reader:
        row = reader.execute(
            "SELECT current_user, current_setting('transaction_read_only'), current_setting('jit'), "
            "current_setting('statement_timeout'), current_setting('lock_timeout')"
        ).fetchone()
        assert row == ("ops_monitor", "on", "off", "2s", "500ms")


def test_a_worker_that_serves_shows_in_its_lanes(settings: Settings, served: Served) -> None:
    engine = connect(settings, application="test")
    with engine.begin() as writer:
        write_worker_heartbeat(writer, name="host-7", host="host", lanes=[Lane.C])
    engine.dispose()
    said = served.scrape()
    assert (said("ops_workers", lane="C"), said("ops_workers", lane="D")) == (1, 0)


@pytest.mark.usefixtures("busy")
def test_run_that_is_to_start_later_does_not_wait_yet(served: Served, db: psycopg.Connection[Any]) -> None:
    def counts() -> list[float]:
        said = served.scrape()
        return [said("ops_runs", kind="deploy", lane="B", status=one) or 0 for one in ("queued", "postponed")]

    queued, postponed = counts()
    db.execute(
        "UPDATE ops.runs SET due_at = now() + interval '1 day' WHERE id = "
        "(SELECT id FROM ops.runs WHERE kind = 'deploy' AND status = 'queued' AND attempt = 1 LIMIT 1)"
    )
    assert counts() == [queued - 1, postponed + 1]
