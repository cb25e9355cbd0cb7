"""Runs finish from several connections while whoever folds is killed, history is deleted, and the exporter starts anew.

`python -m tests.integration.exporter.siege 100000` does it at full size on a server of its own.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from pydantic import SecretStr

from exporter.metrics.collector import Room
from exporter.metrics.scrape import Scraper
from opsdb.migrate import create_database, upgrade
from opsdb.settings import Settings
from tests.support.postgres import running

WRITERS = 4
OUTCOMES = ("succeeded", "failed", "cancelled")
Series = dict[tuple[str, ...], float]

FOLDER = """
import sys, time
from sqlalchemy import create_engine
from opsdb.runs.totals import fold_deltas
engine = create_engine(sys.argv[1])
with engine.connect() as db:
    db.exec_driver_sql("SET ROLE ops_writer")
    print("folding", flush=True)
    while True:
        fold_deltas(db, batch=500)
        db.commit()
        time.sleep(0.01)
"""
FINISH = """
WITH made AS (
    INSERT INTO ops.runs (id, session_id, kind, lane, status, created_at, started_at,
                          state_id, state_at)
    SELECT gen_random_uuid(), (SELECT id FROM ops.sessions LIMIT 1), %(kind)s, %(lane)s, 'running',
           now() - interval '1.7 s', now() - interval '1.234567 s', gen_random_uuid(), now()
    FROM generate_series(1, %(count)s) RETURNING id
) SELECT array_agg(id) FROM made
"""


@dataclass
class Siege:
    """What happened."""

    truth: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    said: Series = field(default_factory=dict)
    """The counters of the last scrape."""
    went_back: list[str] = field(default_factory=list)
    scrapes: int = 0
    kills: int = 0
    deleted: int = 0
    left: int = 0
    """Deltas that nobody has folded."""

    def wrong(self) -> list[str]:
        """Every counter that is not the truth."""
        found = []
        for (kind, lane, outcome), count in self.truth.items():
            labels = ("kind", kind), ("lane", lane)
            key = ("ops_runs_finished_total", *map(str, sorted((*labels, ("outcome", outcome)))))
            if self.said.get(key) != count:
                found.append(f"{key}: {self.said.get(key)}, in truth {count}")
        for name in ("ops_runs_created_total", "ops_run_duration_seconds_count"):
            total = sum(value for key, value in self.said.items() if key[0] == name)
            if total != self.truth.total():
                found.append(f"{name}: {total}, in truth {self.truth.total()}")
        return found


def besiege(settings: Settings, *, finishes: int, seed: int) -> Siege:
    """Let that many runs finish, under all that. Returns when they have."""
    siege, done = Siege(), threading.Event()
    url = settings.ops_url
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 'siege')")
    with ThreadPoolExecutor(WRITERS + 4) as pool:
        others = [pool.submit(_fold_and_die, siege, settings, done, random.Random(f"{seed} {n}")) for n in range(2)]
        others += [pool.submit(work, siege, settings, done) for work in (_scrape, _delete)]
        writers = [
            pool.submit(_finish, url, finishes // WRITERS, random.Random(f"{seed} writer {n}")) for n in range(WRITERS)
        ]
        try:
            for writer in writers:
                siege.truth += writer.result()
        finally:
            done.set()
        for other in others:
            other.result()
    last, scrapes = Scraper(url, Room()), siege.scrapes
    while siege.scrapes == scrapes:
        siege.said = _counters(last, siege)
    last.close()
    with psycopg.connect(url) as db:
        row = db.execute("SELECT count(*) FROM ops.metric_deltas").fetchone()
        siege.left = int(row[0]) if row else 0
    return siege


def _finish(url: str, count: int, chance: random.Random) -> Counter[tuple[str, str, str]]:
    """Finish runs in transactions of many sizes, some of which are rolled back. Returns what was committed."""
    truth: Counter[tuple[str, str, str]] = Counter()
    with psycopg.connect(url) as db:
        while count:
            size = min(count, chance.choice((1, 1, 3, 20)))
            facts = {"kind": chance.choice(("deploy", "backup")), "lane": chance.choice("AB")}
            outcome, kept = chance.choice(OUTCOMES), chance.random() > 0.1
            made = db.execute(FINISH, {**facts, "count": size}).fetchone()
            assert made is not None
            db.execute(
                "UPDATE ops.runs SET status = %s, finished_at = clock_timestamp() WHERE id = ANY(%s)",
                [outcome, made[0]],
            )
            if not kept:
                db.rollback()
                continue
            db.commit()
            truth[facts["kind"], facts["lane"], outcome] += size
            count -= size
    return truth


def _fold_and_die(siege: Siege, settings: Settings, done: threading.Event, chance: random.Random) -> None:
    url = settings.ops_url.replace("postgresql://", "postgresql+psycopg://")
    while not done.is_set():
        with subprocess.Popen([sys.executable, "-c", FOLDER, url], stdout=subprocess.PIPE) as folder:
            assert folder.stdout is not None
            folder.stdout.readline()
            time.sleep(chance.random() * 0.5)
            folder.kill()
        siege.kills += 1


def _delete(siege: Siege, settings: Settings, done: threading.Event) -> None:
    """Retention, in a hurry."""
    with psycopg.connect(settings.ops_url, autocommit=True) as db:
        while not done.is_set():
            siege.deleted += db.execute("DELETE FROM ops.runs WHERE finished_at IS NOT NULL").rowcount
            time.sleep(0.2)


def _scrape(siege: Siege, settings: Settings, done: threading.Event) -> None:
    """Scrape without a pause, each ten times with a new exporter. What goes back is noted."""
    while not done.is_set():
        scraper = Scraper(settings.ops_url, Room())
        for _ in range(10):
            now = _counters(scraper, siege)
            siege.went_back += [
                f"{key}: {old} to {now.get(key)}" for key, old in siege.said.items() if now.get(key, -1) < old
            ]
            siege.said = now
        scraper.close()


def _counters(scraper: Scraper, siege: Siege) -> Series:
    """All that may only grow, of one scrape; the last good ones when the database was too busy to say it in time."""
    families = scraper.scrape(seconds=30)
    if not families.up:
        return siege.said
    siege.scrapes += 1
    return {
        (sample.name, *map(str, sorted(sample.labels.items()))): sample.value
        for family in families.collect()
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def main(*arguments: str) -> None:
    """Besiege a server of its own, and say what came of it."""
    with tempfile.TemporaryDirectory(prefix="siege", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        with running(Path(folder)) as pattern:
            create_database(pattern.format(database="postgres"), "ops")
            settings = Settings(home=Path(folder), database_url=SecretStr(pattern.format(database="ops")))
            upgrade(settings)
            began = time.monotonic()
            siege = besiege(settings, finishes=int(arguments[0]), seed=int(time.time()))
            seconds = time.monotonic() - began
    print(
        f"{siege.truth.total()} finishes in {seconds:.0f} s, {siege.kills} folders killed, {siege.scrapes} scrapes, "
        f"{siege.deleted} runs deleted, {siege.left} deltas left; went back: {siege.went_back or 'never'}; "
        f"wrong: {siege.wrong() or 'nothing'}"
    )
    sys.exit(1 if siege.went_back or siege.wrong() else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
