"""Each due time of a schedule stands once in the record, whatever is deployed or changed meanwhile."""

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
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.flows import load_flow_from_entrypoint

from deployments.server.apply import apply_deployments
from deployments.server.declared import load_deployments
from tests.acceptance.faults.lab import Lab
from tests.support.tiers import in_soak
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

    def change(self) -> None:
        """As somebody does in the Prefect UI."""
        made = self._client.read_deployment_by_name(f"once/{self.entry['name']}")
        self._client.update_deployment(made.id, DeploymentUpdate(description="By hand."))

    def began(self) -> list[str]:
        """The id of each run that began, as often as it began."""
        lines = [line.split() for line in Path(self.ledger).read_text().splitlines()]
        return [run for what, run, _, _ in lines if what == "first"]

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


def recorded(lab: Lab, ticking: Ticking, end: datetime) -> list[dict[str, Any]]:
    """What the record has of each run that was due by then, the earliest first."""
    query = """
    SELECT created_at, id, status::text, attempt, claimed_at, started_at, finished_at, deleted_at, fence_reason, error
    FROM ops.runs WHERE params ->> 'ledger' = %s AND created_at <= %s ORDER BY created_at
    """
    return lab.rows(query, ticking.ledger, end)


@pytest.mark.promise(14)
@pytest.mark.parametrize("deploys", [10, *in_soak([50])])
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
            ticking.change()
        end = lab.rows("SELECT clock_timestamp() AS now")[0]["now"]

        def all_succeeded() -> bool:
            runs = recorded(lab, ticking, end)
            return {run["status"] for run in runs} == {"succeeded"} and runs[-1]["created_at"] > end - EVERY

        try:  # before the schedule goes: what is due and waits goes with it, and is cancelled
            wait_for(all_succeeded, seconds=180, what="all that was due succeeded, and nothing else is recorded")
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *map(str, recorded(lab, ticking, end))])) from None
    lab.wait_for_verdicts()
    runs = recorded(lab, ticking, end)
    first = runs[0]["created_at"]
    assert [run["created_at"] for run in runs] == [first + EVERY * number for number in range(len(runs))]
    assert len(runs) >= deploys / 10
    ids, began = [str(run["id"]) for run in runs], ticking.began()
    assert [began.count(one) for one in ids] == [1] * len(runs)
    later = lab.rows("SELECT id FROM ops.runs WHERE params ->> 'ledger' = %s AND created_at > %s", ticking.ledger, end)
    assert set(began) <= {*ids, *(str(run["id"]) for run in later)}
