"""What PostgreSQL does for a part that itself does nothing: a long statement, or a wait for a lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg.rows import dict_row

from opsdb.room_locks import Holder

OPTIONS = "-c statement_timeout=1000 -c search_path=pg_catalog"
STATEMENT_SECONDS = 5.0
WORK_OF_THE_DATABASE = """
SELECT b.pid IS NULL AS executing, w.datname::text AS database,
       left(regexp_replace(w.query, '\\s+', ' ', 'g'), 60) AS query,
       extract(epoch FROM clock_timestamp() - w.xact_start)::int AS seconds,
       b.pid, coalesce(b.usename::text, '(the server)') AS role, b.application_name AS application
FROM pg_stat_activity w
     LEFT JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS held(pid) ON true
     LEFT JOIN pg_stat_activity b ON b.pid = held.pid
WHERE w.datname = ANY (%s) AND w.pid <> pg_backend_pid() AND w.state = 'active'
      AND w.xact_start < clock_timestamp() - make_interval(secs => %s)
ORDER BY executing, w.xact_start, b.pid LIMIT 1
"""


@dataclass(frozen=True)
class DatabaseWork:
    """A statement that is executed, or a lock that somebody else holds; each a clause, or None."""

    executing: str | None = None
    held: str | None = None


def database_work(url: str, databases: Sequence[str]) -> DatabaseWork:
    """What sessions in these databases have been executing for 5 s or more, or what they wait for; empty if unknown."""
    try:
        with psycopg.connect(url, connect_timeout=2, options=OPTIONS, row_factory=dict_row) as db:
            row = db.execute(WORK_OF_THE_DATABASE, [list(databases), STATEMENT_SECONDS]).fetchone()
    except psycopg.Error:
        return DatabaseWork()
    if row is None:
        return DatabaseWork()
    if row["executing"]:
        where = f"for {row['seconds']} s in {row['database']}"
        return DatabaseWork(executing=f"PostgreSQL executes {where}: {row['query']}")
    holder = Holder(row["role"], row["application"], row["pid"])
    return DatabaseWork(
        held=f"{holder} holds a lock that a session in {row['database']} waits for: let it end, or end it "
        f"(SELECT pg_terminate_backend({row['pid']}))"
    )
