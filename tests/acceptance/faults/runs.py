"""What a fault case sees of a run, and how it makes one fail or wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate

from tests.acceptance.faults.lab import Lab
from tests.support.commands import REPOSITORY, run_ops
from tests.support.waiting import wait_for

BEFORE = ["prepare/1", "build/1"]
AFTER = [*BEFORE, "deploy/2", "tell/2"]
"""What the steps of a run did before it asked, and in the end."""


def ops(lab: Lab, *arguments: str, code: int = 0, extra: dict[str, str] | None = None) -> str:
    """What an `ops` command says, which must end with that code."""
    answer = run_ops(*arguments, env=lab.environment | (extra or {}), cwd=REPOSITORY)
    assert answer.code == code, answer
    return answer.out + answer.err


def steps(lab: Lab, run: UUID) -> dict[int, dict[str, str]]:
    """The status of each step, by attempt and name."""
    found: dict[int, dict[str, str]] = {}
    for row in lab.rows("SELECT * FROM ops.run_steps WHERE run_id = %s ORDER BY attempt, index", run):
        found.setdefault(row["attempt"], {})[row["name"]] = row["status"]
    return found


def done(lab: Lab, run: UUID) -> list[str]:
    """What the steps of a run did, each as `name/attempt`."""
    return [f"{effect.what}/{effect.attempt}" for effect in lab.effects(run)]


def wait_asking(lab: Lab, run: UUID, *, seconds: float = 30) -> None:
    """Return when the run waits for an approval, and its process is gone."""
    asked = "SELECT 1 AS ok FROM ops.run_states WHERE run_id = %s AND type = 'PAUSED'"
    wait_for(lambda: lab.rows(asked, run), seconds=seconds, what=f"run {run} asks")
    wait_for(lambda: not lab.living(run), seconds=60, what=f"run {run} has no process")
    lab.wait_status(run, "queued")


def failing(stop: Path, step: str) -> Path:
    """Make a step fail; remove the file to let it succeed."""
    file = stop.with_name(f"{stop.name}.{step}")
    file.touch()
    return file


def events(lab: Lab, run: UUID) -> list[str]:
    """What is noted of a run, oldest first."""
    rows = lab.rows("SELECT message FROM ops.run_events WHERE run_id = %s ORDER BY created_at", run)
    return [row["message"] for row in rows]


def shown(lab: Lab, run: UUID) -> dict[str, Any]:
    """What `ops show` says of a run."""
    answer = run_ops("show", str(run), "--json", env=lab.environment, cwd=REPOSITORY)
    document: dict[str, Any] = json.loads(answer.fine())
    return document


def in_prefect(client: SyncPrefectClient, run: UUID) -> list[str]:
    """The names of all states of the run, oldest first."""
    return [state.name or "" for state in sorted(client.read_flow_run_states(run), key=lambda state: state.timestamp)]


@contextmanager
def lane_closed(client: SyncPrefectClient) -> Iterator[None]:
    """Nothing starts in lane A meanwhile."""
    client.update_work_pool("lane-a", WorkPoolUpdate(is_paused=True))
    try:
        yield
    finally:
        client.update_work_pool("lane-a", WorkPoolUpdate(is_paused=False))
