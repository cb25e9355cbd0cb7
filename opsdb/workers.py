"""Which workers live: each says so for every lane it serves, by the database's clock."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

BEAT_SECONDS = 5.0

BEAT = text("""
INSERT INTO ops.workers (name, lane, host) SELECT :name, l, :host FROM unnest(CAST(:lanes AS text[])) l
ON CONFLICT (name, lane) DO UPDATE SET heartbeat_at = clock_timestamp()
""")
SUCCEED = text("""
DELETE FROM ops.workers
WHERE host = :host AND name <> :name AND lane = ANY(:lanes) AND heartbeat_at < clock_timestamp() - interval '30 s'
""")
LEAVE = text("DELETE FROM ops.workers WHERE name = :name")


def beat(db: Connection, *, name: str, host: str, lanes: Sequence[str]) -> None:
    """Say that this worker lives. One of the same host and lane that was killed is forgotten: this one replaced it."""
    db.execute(BEAT, {"name": name, "host": host, "lanes": list(lanes)})
    db.execute(SUCCEED, {"name": name, "host": host, "lanes": list(lanes)})


def leave(db: Connection, *, name: str) -> None:
    """Say that this worker ended on purpose: nobody needs to look for it."""
    db.execute(LEAVE, {"name": name})
