"""What tests of `ops sync` do in Prefect, and see in the ops database."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.states import Pending
from sqlalchemy import Engine, text

from opsdb.states import CLAIMED_BY

Syncing = Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]


def claimed() -> State[Any]:
    """The state with which a worker claims a run: the room puts one back into its queue that nobody has claimed."""
    return Pending(message=f"{CLAIMED_BY}w-1")


def walk(client: SyncPrefectClient, run_id: UUID, *states: State[Any]) -> None:
    for state in states:
        client.set_flow_run_state(run_id, state, force=True)


def statuses(engine: Engine, kind: str) -> dict[UUID, str]:
    with engine.connect() as db:
        rows = db.execute(text("SELECT id, status FROM ops.runs WHERE kind = :kind"), {"kind": kind})
        return {row.id: row.status for row in rows}


def events(engine: Engine, run_id: UUID) -> list[str]:
    with engine.connect() as db:
        query = text("SELECT message FROM ops.run_events WHERE run_id = :id ORDER BY created_at")
        return list(db.scalars(query, {"id": run_id}))


def eventually(question: Callable[[], object], expected: object, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while (answer := question()) != expected:
        assert time.monotonic() < deadline, f"got {str(answer)[:300]}, want {str(expected)[:300]}"
        time.sleep(0.05)


def wait_until_alive(engine: Engine) -> None:
    query = text("SELECT EXISTS (SELECT FROM ops.sync_marks WHERE updated_at > clock_timestamp() - interval '2 s')")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        eventually(lambda: db.scalar(query), True, 60)
