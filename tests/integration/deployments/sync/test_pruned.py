"""The sync prunes a long history while it follows runs, and brings nothing of it back."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from uuid import UUID

import psycopg
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Completed, Running
from sqlalchemy import Engine, text

from exporter.metrics.collector import Room
from exporter.metrics.scrape import Scraper
from opsdb.runs.totals import fold_deltas
from opsdb.settings import Settings
from tests.integration.deployments.sync.following import Syncing, claimed, eventually, statuses, walk
from tests.support.old_runs import make_old_runs, prefect_url
from tests.support.tiers import in_soak

AT_ONCE = 4_000
OVER = """
SELECT coalesce(deleted #>> '{record: runs,count}', '0') FROM ops.prunes
WHERE started_by = 'room' AND finished_at IS NOT NULL
"""


def counters(scraper: Scraper, kind: str) -> dict[tuple[str, ...], float]:
    """What Prometheus gets of a kind's runs, in a scrape that is complete."""
    families = scraper.scrape(seconds=30)
    assert families.up
    return {
        (sample.name, *map(str, sorted(sample.labels.items()))): sample.value
        for family in families.collect()
        if family.type == "counter"
        for sample in family.samples
        if sample.labels.get("kind") == kind
    }


@pytest.mark.gate
@pytest.mark.timeout(4 * 3600)  # a million runs take an hour or more
@pytest.mark.parametrize("count", [4_000, *in_soak([20_000, 1_000_000])])
def test_long_history_goes_while_runs_are_followed_and_no_counter_moves(  # noqa: PLR0917  # fixtures
    room: Settings,
    client: SyncPrefectClient,
    engine: Engine,
    kind: str,
    deployment_id: UUID,
    syncing: Syncing,
    count: int,
) -> None:
    old = f"old-{kind}"
    for _ in range(count // AT_ONCE):
        make_old_runs(room, days=100, count=AT_ONCE, kind=old)
        with engine.begin() as db:  # as each sweep adds up what was counted
            while fold_deltas(db):
                pass
    for url in (room.ops_url, prefect_url(room)):  # as autovacuum leaves a history that came day by day
        with psycopg.connect(url, autocommit=True) as server:
            server.execute("VACUUM ANALYZE")
    backups = set(make_old_runs(room, days=200, count=3, kind="odoo_db_backup", database="shop"))
    scraper = Scraper(room.ops_url, Room(kinds=(old, kind)))
    before, followed = counters(scraper, old), list[UUID]()
    assert float(count) in before.values()

    def follow(over: Callable[[], bool]) -> tuple[list[float], list[float]]:
        """Run one after the other until it is over. Seconds until each is recorded, and those of a scrape."""
        lags, scrapes = list[float](), list[float]()
        while not over():
            run = client.create_flow_run_from_deployment(deployment_id)
            walk(client, run.id, claimed(), Running(), Completed())
            began = time.monotonic()
            eventually(lambda run=run: statuses(engine, kind).get(run.id), "succeeded", 60)  # type: ignore[misc]
            lags.append(time.monotonic() - began)
            followed.append(run.id)
            began = time.monotonic()
            assert counters(scraper, old) == before
            scrapes.append(time.monotonic() - began)
        return lags, scrapes

    def ended() -> object:
        with engine.connect() as db:
            found: str | None = db.scalar(text(OVER))
            return found

    with syncing():
        quiet = follow(lambda: len(followed) == 20)
    with engine.begin() as db:
        db.execute(text("UPDATE ops.prunes SET finished_at = finished_at - interval '25 hours'"))
        db.execute(
            text("INSERT INTO ops.sync_marks (name, at) VALUES ('sync', clock_timestamp()) ON CONFLICT DO NOTHING")
        )
    with syncing():
        pruning = follow(lambda: ended() is not None)
        with engine.begin() as db:  # as if it had never followed anything
            db.execute(text("DELETE FROM ops.sync_marks WHERE name = 'sync'"))
        eventually(lambda: _is_there(engine, "SELECT FROM ops.sync_marks WHERE name = 'sync'"), True, 60)
    for when, measured in (("before", quiet), ("while pruning", pruning)):
        for what, seconds in zip(("recorded", "scraped"), measured, strict=True):
            print(f"{when}: {len(seconds)} times {what}: median {median(seconds):.2f} s, most {max(seconds):.2f} s")
    assert ended() == str(count - 1)
    assert list(statuses(engine, old).values()) == ["succeeded"]  # the last of its kind
    assert set(statuses(engine, "odoo_db_backup")) == backups
    assert statuses(engine, kind) == dict.fromkeys(followed, "succeeded")
    assert not _is_there(engine, "SELECT FROM ops.runs WHERE deleted_at IS NOT NULL")
    assert counters(scraper, old) == before
    assert float(len(followed)) in counters(scraper, kind).values()
    scraper.close()


def _is_there(engine: Engine, query: str) -> bool:
    with engine.connect() as db:
        return bool(db.scalar(text(f"SELECT EXISTS ({query})")))
