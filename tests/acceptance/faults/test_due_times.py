"""Each due time of a schedule stands once in the record, whatever is deployed meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.flows import load_flow_from_entrypoint

from deployments.server.apply import apply_deployments
from deployments.server.declared import load_deployments
from tests.acceptance.faults.lab import Lab
from tests.support.waiting import wait_for

EVERY = timedelta(seconds=4)


class Ticking:
    """A deployment of `once` with a schedule of every 4 s, and one that deploys change."""

    def __init__(self, folder: Path, client: SyncPrefectClient) -> None:
        self._file = folder / "prefect.yaml"
        self._client = client
        self._last: dict[str, Any] = {}
        self.ledger = str(folder / "ticks")
        self.entry: dict[str, Any] = {
            "name": f"ticking-{uuid4().hex[:8]}",
            "entrypoint": "tests.acceptance.faults.runbooks.once",
            "tags": ["runbook"],
            "work_pool": {"name": "lane-b", "work_queue_name": "default"},
            "parameters": {"ledger": self.ledger},
        }

    def deploy(self, **fields: Any) -> bool:
        """Whether anything was written."""
        self._file.write_text(yaml.safe_dump({"deployments": [self.entry | fields]}))
        loaded, _ = load_deployments(self._file, [])
        applied = self._last.__setitem__
        return bool(apply_deployments(self._client, loaded, last=self._last, applied=applied).written)

    def remove(self) -> None:
        name = f"once/{self.entry['name']}"
        self._client.delete_deployment(self._client.read_deployment_by_name(name).id)


@pytest.fixture(scope="module", autouse=True)
def _loads_a_flow() -> None:
    load_flow_from_entrypoint("tests.acceptance.faults.runbooks.once")  # which sets up Prefect's loggers


@pytest.fixture
def ticking(client: SyncPrefectClient, tmp_path: Path) -> Iterator[Ticking]:
    """Removed in the end, with its planned runs."""
    ticking = Ticking(tmp_path, client)
    yield ticking
    ticking.remove()


@contextmanager
def often(ticking: Ticking) -> Iterator[dict[str, Any]]:
    """A schedule of every 4 s, as long as the block lasts."""
    schedule = {"slug": "often", "interval": EVERY.seconds, "anchor_date": "2026-01-01T00:00:00Z"}
    ticking.deploy(schedules=[schedule])
    yield schedule
    ticking.deploy(schedules=[])


@pytest.mark.promise(14)
@pytest.mark.parametrize("deploys", [10, pytest.param(50, marks=pytest.mark.gate)])
def test_each_due_time_is_one_run_over_deploys_at_random_moments(lab: Lab, ticking: Ticking, deploys: int) -> None:
    moments, pause = random.Random(19), Event()
    with often(ticking) as schedule:
        for number in range(deploys):
            pause.wait(moments.uniform(0, 0.8))
            changes = [
                {"description": f"Number {number}."},
                {"parameters": ticking.entry["parameters"] | {"seconds": number % 2}},
                {"tags": ["runbook", f"number-{number}"]},
            ]
            yearly = {"slug": "yearly", "cron": f"0 2 {number % 28 + 1} 1 *"}
            assert ticking.deploy(schedules=[schedule, yearly][: 1 + number % 2], **changes[number % 3])
        end = lab.rows("SELECT clock_timestamp() AS now")[0]["now"]
    recorded = "SELECT * FROM ops.runs WHERE params ->> 'ledger' = %s AND created_at <= %s ORDER BY created_at"

    seen: list[dict[str, Any]] = []

    def all_over() -> list[datetime]:
        rows = lab.rows(recorded, ticking.ledger, end)
        seen[:] = rows
        return [row["created_at"] for row in rows] if {row["status"] for row in rows} == {"succeeded"} else []

    try:
        times = wait_for(all_over, seconds=180, what="all ran, and nothing else is recorded")
    except AssertionError as error:
        raise AssertionError(f"{error}; there are {seen}") from None
    assert times == [times[0] + EVERY * number for number in range(len(times))]
    assert times[-1] > end - EVERY
    assert len(times) > deploys / 10
