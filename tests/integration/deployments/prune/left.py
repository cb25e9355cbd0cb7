"""What a pass left, and output of steps that is of an age."""

from __future__ import annotations

import os
import time
from typing import Any
from uuid import UUID

import psycopg

from opsdb.settings import Settings
from tests.support.old_runs import prefect_url


def ids(url: str, query: str, *values: object) -> set[Any]:
    with psycopg.connect(url) as db:
        return {row[0] for row in db.execute(query, values)}


def recorded(room: Settings) -> set[UUID]:
    """All but the one of today."""
    return ids(room.ops_url, "SELECT id FROM ops.runs WHERE created_at < now() - interval '1 day'")


def in_prefect(room: Settings) -> set[UUID]:
    return ids(prefect_url(room), "SELECT id FROM flow_run")


def write_output(room: Settings, run_id: UUID | str, *, days: float, size: int = 10) -> str:
    """Write what a step of the run wrote so many days ago. Returns the name of its folder."""
    folder = room.logs / str(run_id) / "attempt-1"
    folder.mkdir(parents=True)
    (folder / "01-step.log").write_bytes(b"x" * size)
    at = time.time() - days * 86400
    for path in (folder / "01-step.log", folder, folder.parent):
        os.utime(path, (at, at))
    return str(run_id)
