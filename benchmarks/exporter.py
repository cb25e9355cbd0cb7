"""Measures a scrape of `ops exporter`, beside the approach of prometheus-prefect-exporter over the same rows.

`python -m benchmarks.exporter small`, `large` and `memory` each measure a part within three minutes; `report` writes
benchmarks/exporter.md and benchmarks/exporter.svg from what they found.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
from pydantic import SecretStr

from benchmarks.exporter_report import Found, picture, report
from opsdb.migrate import create_database, upgrade
from opsdb.settings import Settings
from tests.support.children import free_port
from tests.support.postgres import running

HERE = Path(__file__).parent
FOUND = Path(tempfile.gettempdir()) / "ops-exporter-benchmark.json"
ACTIVE = 10_000
SIZES = {"small": 10_000, "large": 1_000_000}
SCRAPES, PEER_SCRAPES, MEMORY_SCRAPES = 1000, 7, 10_000
MEMORY_ACTIVE = 500
"""Fewer, so that ten thousand scrapes take two minutes: the exporter gets sums, however many runs there are."""

LOAD = """
SET session_replication_role = replica;
INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 'benchmark');
INSERT INTO ops.runs (id, session_id, kind, lane, status, params, claimed_by, created_at, claimed_at, started_at,
                      heartbeat_at, finished_at, state_id, state_at)
SELECT gen_random_uuid(), (SELECT id FROM ops.sessions), 'kind_' || n % 6,
       (ARRAY['A','B','C','D'])[n % 4 + 1]::ops.lane_type,
       CASE WHEN n <= {finished} THEN (ARRAY['succeeded','succeeded','failed','cancelled'])[n % 4 + 1]
            ELSE (ARRAY['queued','claimed','running','running'])[n % 4 + 1] END,
       jsonb_build_object('odoo_db', 'odoo_' || n % 50, 'retention_days', 30), 'host-' || n % 7,
       now() - interval '1 day', now() - interval '1 day', now() - interval '1 hour', now(),
       CASE WHEN n <= {finished} THEN now() - make_interval(secs => n % 3000) END, gen_random_uuid(), now()
FROM generate_series(1, {finished} + {active}) n;
INSERT INTO ops.metric_totals (name, kind, lane, label, count, value, latest_at)
SELECT 'finished', kind, lane::text, status, count(*), 0, max(finished_at) FROM ops.runs WHERE finished_at IS NOT NULL
GROUP BY kind, lane, status;
INSERT INTO ops.metric_totals (name, kind, lane, label, count, value)
SELECT 'duration', kind, lane::text, bound, count(*) / 3, 1 FROM ops.runs,
       unnest(ARRAY['1', '60', '3600', 'Infinity']) bound WHERE finished_at IS NOT NULL GROUP BY kind, lane, bound;
"""


@contextmanager
def room(finished: int, active: int = ACTIVE) -> Iterator[Settings]:
    """A database with so many finished runs beside the active ones."""
    with tempfile.TemporaryDirectory(prefix="bench", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        with running(Path(folder)) as pattern:
            create_database(pattern.format(database="postgres"), "ops")
            settings = Settings(
                home=Path(folder),
                database_url=SecretStr(pattern.format(database="ops")),
                exporter_port=free_port(),
            )
            upgrade(settings)
            with psycopg.connect(settings.ops_url, autocommit=True) as db:
                for statement in LOAD.format(finished=finished, active=active).split(";\n"):
                    if statement.strip():
                        db.execute(statement)
                db.execute("VACUUM ANALYZE")
                db.execute("CHECKPOINT")
            yield settings


@contextmanager
def child(*arguments: str, **environment: str) -> Iterator[psutil.Process]:
    """A program of this interpreter, for the length of the block."""
    process = subprocess.Popen([sys.executable, "-m", *arguments], env=os.environ | environment)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def ours(settings: Settings) -> Iterator[tuple[psutil.Process, str]]:
    """`ops exporter` on that database: its process and where its metrics are."""
    environment = {
        "OPS_HOME": str(settings.home),
        "OPS_DATABASE_URL": settings.ops_url,
        "OPS_EXPORTER_PORT": str(settings.exporter_port),
    }
    with child("cli", "exporter", **environment) as process:
        url = f"http://127.0.0.1:{settings.exporter_port}/metrics"
        _wait(url)
        yield process, url


@contextmanager
def paging(settings: Settings) -> Iterator[tuple[psutil.Process, str]]:
    """The paging exporter on that database, through a stand-in for Prefect's API."""
    api, port = free_port(), free_port()
    with ExitStack() as stack:
        stack.enter_context(child("benchmarks.paging", "api", settings.ops_url, str(api)))
        process = stack.enter_context(child("benchmarks.paging", "exporter", str(api), str(port)))
        time.sleep(3)  # the stand-in and the exporter have no page that tells without paging
        url = f"http://127.0.0.1:{port}/metrics"
        _wait(url)
        yield process, url


def _wait(url: str) -> None:
    for _ in range(300):
        try:
            if httpx.get(url, timeout=60, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer")


def scrapes(url: str, count: int) -> tuple[list[float], int]:
    """Milliseconds of each scrape, and the number of series."""
    times, series = [], 0
    with httpx.Client(timeout=60, trust_env=False) as http:
        for _ in range(count):
            began = time.perf_counter()
            text = http.get(url).text
            times.append((time.perf_counter() - began) * 1000)
            series = sum(not line.startswith("#") for line in text.splitlines())
            if url.endswith("/metrics") and "ops_runs" in text and "\nops_up 1.0\n" not in text:
                raise RuntimeError("a scrape was not complete")
    return times, series


def measure(size: str) -> dict[str, Any]:
    """Both exporters, in turn on one database."""
    with room(SIZES[size]) as settings:
        found: dict[str, Any] = {"finished": SIZES[size], "active": ACTIVE}
        for name, system, count in (("ours", ours, SCRAPES), ("paging", paging, PEER_SCRAPES)):
            with system(settings) as (process, url):
                scrapes(url, 3)
                times, series = scrapes(url, count)
                found[name] = _figures(times) | {"series": series, "rss_mb": _rss(process)}
    return found


def measure_memory() -> dict[str, Any]:
    """What ours holds after many scrapes."""
    with room(SIZES["small"], MEMORY_ACTIVE) as settings, ours(settings) as (process, url):
        scrapes(url, 10)
        before = _rss(process)
        scrapes(url, MEMORY_SCRAPES)
        after = {"rss_mb": _rss(process), "pss_mb": process.memory_full_info().pss / 1024**2}
        return {"scrapes": MEMORY_SCRAPES, "active": MEMORY_ACTIVE, "before_mb": before, **after}


def _figures(times: list[float]) -> dict[str, float]:
    cut = statistics.quantiles(times, n=100, method="inclusive")
    under = sum(each < 50 for each in times) / len(times)
    return {"median": statistics.median(times), "p95": cut[94], "p99": cut[98], "under_50": under, "count": len(times)}


def _rss(process: psutil.Process) -> float:
    return process.memory_info().rss / 1024**2


def main(*stages: str) -> None:
    """Do the stages that are named, all of them when none is."""
    found: Found = json.loads(FOUND.read_text()) if FOUND.exists() and stages else {}
    for stage in stages or ("small", "large", "memory", "report"):
        if stage == "report":
            (HERE / "exporter.md").write_text(report(found))
            (HERE / "exporter.svg").write_text(picture(found))
        else:
            found[stage] = measure_memory() if stage == "memory" else measure(stage)
            print(stage, json.dumps(found[stage], indent=1), flush=True)
            FOUND.write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
