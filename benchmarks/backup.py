"""Measures what the proof of a backup costs: `odoo_db_backup` and its restore drill beside a plain `pg_dump -Fc`.

`python -m benchmarks.backup [MEGABYTES]` (default 1270, which PostgreSQL stores in 1 GiB) writes benchmarks/backup.md.
It starts a PostgreSQL and a Prefect server of its own in a temporary folder, which needs six times that much room.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from prefect.testing.utilities import prefect_test_harness

from deployments.room.postgres import PROGRAMS
from flows.engine import step
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_restore_drill import odoo_restore_drill
from tests.support.postgres import running

PAGE = Path(__file__).parent / "backup.md"
DATABASE = "odoo_bench"
ROUNDS = 3
SMALL_TABLES = 300
BYTES_PER_ROW = 1000  # of `line`: about 600 of text that compresses well, 200 that do not

MAKE = """
CREATE TABLE line (id bigint PRIMARY KEY, name text, note text, price numeric, sum double precision,
                   data bytea, active boolean, made_at timestamptz, changed_on date);
INSERT INTO line SELECT n, 'Sale order line ' || n, repeat(md5((n % 1000)::text) || ' ', 18), n / 7.0, n * 1.5,
       decode(md5(n::text) || md5((-n)::text) || repeat(md5((n * 3)::text), 4), 'hex'), n % 3 = 0,
       timestamptz '2026-01-01Z' + n * interval '1 second', date '2026-01-01' + n % 365
FROM generate_series(1, {rows}) n;
CREATE INDEX ON line (name);
CREATE INDEX ON line (made_at);
"""


def make(url: str, megabytes: int) -> int:
    """Fill the database; returns the bytes of its tables without indexes."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(MAKE.format(rows=megabytes * 1024 * 1024 // BYTES_PER_ROW))
        for number in range(SMALL_TABLES):
            db.execute(f"CREATE TABLE small_{number} (id int, name text)")
            db.execute(f"INSERT INTO small_{number} SELECT n, 'name ' || n FROM generate_series(1, 20) n")  # noqa: S608
        db.execute("CHECKPOINT")
        row = db.execute("SELECT sum(pg_table_size(oid))::bigint FROM pg_class WHERE relkind = 'r'").fetchone()
        return int(row[0]) if row else 0


@contextmanager
def step_seconds() -> Iterator[dict[str, float]]:
    """How long each step took, by name."""
    seconds: dict[str, float] = {}
    recorded = step._recorded

    def timed(run: Any, **rest: Any) -> Any:
        started = time.monotonic()
        try:
            return recorded(run, **rest)
        finally:
            seconds[rest["name"]] = time.monotonic() - started

    step._recorded = timed
    try:
        yield seconds
    finally:
        step._recorded = recorded


def measure(url: str, folder: Path) -> dict[str, Any]:
    """One round: the plain dump, ours, and the drill of ours."""
    plain = folder / "plain.dump"
    pg_dump = PROGRAMS / "pg_dump"
    started = time.monotonic()
    subprocess.run([pg_dump, "--format=custom", f"--file={plain}", f"--dbname={url}"], check=True)
    plain_seconds, plain_bytes = time.monotonic() - started, plain.stat().st_size
    plain.unlink()

    with step_seconds() as steps:
        started = time.monotonic()
        made = odoo_db_backup(DATABASE)
        seconds = time.monotonic() - started
    home = Path(made["file"]).parent
    size = sum(path.stat().st_size for path in home.iterdir())
    drill = odoo_restore_drill(DATABASE)
    for path in home.iterdir():
        path.unlink()
    return {
        "plain_seconds": plain_seconds,
        "plain_bytes": plain_bytes,
        "seconds": seconds,
        "bytes": size,
        "restore_seconds": drill["restore_seconds"],
        "drill_seconds": drill["duration_seconds"],
        **{f"step {name}": taken for name, taken in steps.items()},
    }


def page(rounds: list[dict[str, Any]], *, table_bytes: int) -> str:
    """The measurements as Markdown: medians."""
    median = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    steps = {name.removeprefix("step "): taken for name, taken in median.items() if name.startswith("step ")}
    time_ratio = median["seconds"] / median["plain_seconds"]
    size_ratio = median["bytes"] / median["plain_bytes"]
    rows = "\n".join(f"| `{name}` | {taken:.1f} s |" for name, taken in steps.items())
    return f"""# What a proven backup costs

Written by `python -m benchmarks.backup`: medians of {len(rounds)} rounds on {os.cpu_count()} processors
({platform.machine()}), with a database of {table_bytes / 2**30:.2f} GiB of rows in {SMALL_TABLES + 1} tables, and the
embedded PostgreSQL on the same machine.

| | plain `pg_dump -Fc` | proven backup | ratio |
|---|---|---|---|
| time | {median["plain_seconds"]:.1f} s | {median["seconds"]:.1f} s | {time_ratio:.2f} |
| size | {median["plain_bytes"] / 1e6:.1f} MB | {median["bytes"] / 1e6:.1f} MB | {size_ratio:.4f} |

The restore took {median["restore_seconds"]:.1f} s; the whole drill, with the check of every byte and the comparison of
every row, {median["drill_seconds"]:.1f} s.

| step of the backup | time |
|---|---|
{rows}

`fingerprint` is the wait after `pg_dump`: rows are counted and hashed while it runs. `verify` reads the dump back from
the disk and decompresses all of it.
"""


def main() -> None:
    """Measure and write the page."""
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1270
    with tempfile.TemporaryDirectory(prefix="ops-backup-benchmark-") as name, prefect_test_harness():
        folder = Path(name)
        with running(folder) as pattern:
            with psycopg.connect(pattern.format(database="postgres"), autocommit=True) as db:
                db.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
            url = pattern.format(database=DATABASE)
            os.environ |= {"OPS_HOME": str(folder / "home"), "OPS_DATABASE_URL": pattern.format(database="postgres")}
            table_bytes = make(url, megabytes)
            rounds = []
            for _ in range(ROUNDS):
                rounds.append(measure(url, folder))
                PAGE.write_text(page(rounds, table_bytes=table_bytes))
    sys.stdout.write(PAGE.read_text())


if __name__ == "__main__":
    main()
