"""Which workers live: each says so for every lane it serves, by the database's clock."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

BEAT = text("""
INSERT INTO ops.workers (name, lane, host) SELECT :name, l, :host FROM unnest(CAST(:lanes AS text[])) l
ON CONFLICT (name, lane) DO UPDATE SET heartbeat_at = clock_timestamp()
""")
SUCCEED = text("""
DELETE FROM ops.workers
WHERE host = :host AND name <> :name AND lane = ANY(:lanes) AND heartbeat_at < clock_timestamp() - interval '30 s'
""")
SERVED = text("""
SELECT lane, count(*) FROM ops.workers
WHERE heartbeat_at > clock_timestamp() - make_interval(secs => :seconds) GROUP BY lane
""")
LEAVE = text("DELETE FROM ops.workers WHERE name = :name")


def write_worker_heartbeat(db: Connection, *, name: str, host: str, lanes: Sequence[str]) -> None:
    """Say that this worker lives. One of the same host and lane that was killed is forgotten: this one replaced it."""
    db.execute(BEAT, {"name": name, "host": host, "lanes": list(lanes)})
    db.execute(SUCCEED, {"name": name, "host": host, "lanes": list(lanes)})


def remove_worker(db: Connection, *, name: str) -> None:
    """Say that this worker ended on purpose: nobody needs to look for it."""
    db.execute(LEAVE, {"name": name})


def count_workers(db: Connection, *, seconds: float) -> dict[str, int]:
    """How many workers of each lane had a heartbeat within `seconds`. Lanes without any are left out."""
    return {lane: count for lane, count in db.execute(SERVED, {"seconds": seconds})}  # noqa: C416  # a Row is not a tuple for mypy
