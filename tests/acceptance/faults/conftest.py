"""One lab for all tests of faults; each test finds its parts running and leaves them so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient

from tests.acceptance.faults.lab import Lab, open_lab
from tests.support.waiting import wait_for

Start = Callable[..., UUID]


TIME_SCALE = 0.25
"""Waiting is what the tests do, so the lab judges four times as fast as a room: `lab.settings.timings`."""


class Labs:
    """The lab of all tests. One that does not come back to life after a test is replaced by a new one."""

    def __init__(self, shared: Path) -> None:
        self._shared = shared
        self._lab: Lab | None = None
        self._stack = ExitStack()

    def living(self, *, worker: bool) -> Lab:
        """The lab with all of its parts running; without `worker`, all but that."""
        if self._lab is not None:
            try:
                return self._revived(self._lab, worker=worker)
            except (AssertionError, OSError, psutil.Error) as error:
                print(f"the lab is given up: {error}")
                self.close()
        self._lab = self._stack.enter_context(open_lab(self._shared, time_scale=TIME_SCALE))
        return self._revived(self._lab, worker=worker)

    def close(self) -> None:
        """End what is there."""
        self._lab = None
        self._stack.close()

    def _revived(self, lab: Lab, *, worker: bool) -> Lab:
        for name in ("worker", "sync"):  # a test that failed may have left one stopped, or cut off
            if name in lab.parts and (
                name in lab.detoured or psutil.Process(lab.parts[name].pid).status() == psutil.STATUS_STOPPED
            ):
                lab.kill(name)
        if "postgres" not in lab.parts:
            lab.start_postgres()
        if "prefect" not in lab.parts:
            lab.start_prefect()
        if not worker:
            if "worker" in lab.parts:
                lab.kill("worker")
        elif "worker" not in lab.parts or lab.parts["worker"].poll() is not None:
            lab.start_worker()
        if "sync" not in lab.parts or lab.parts["sync"].poll() is not None:
            lab.start("sync")
        mark = "SELECT 1 AS ok FROM ops.sync_marks WHERE name = %s AND updated_at > clock_timestamp() - interval '2 s'"
        wait_for(lambda: lab.rows(mark, "sweep"), seconds=60, what="the sync sweeps")
        return lab


@pytest.fixture(scope="package")
def labs(shared_folder: Path) -> Iterator[Labs]:
    """What holds the lab between tests."""
    labs = Labs(shared_folder)
    try:
        yield labs
    finally:
        labs.close()


@pytest.fixture
def lab(labs: Labs, request: pytest.FixtureRequest) -> Lab:
    """The lab with all of its parts running; the worker is left out where a test is marked `own_worker`."""
    return labs.living(worker=request.node.get_closest_marker("own_worker") is None)


@pytest.fixture
def hold(lab: Lab) -> Iterator[Path]:
    """While this file is there, the steps of the manner "held" go on."""
    lab.hold.touch()
    yield lab.hold
    lab.hold.unlink(missing_ok=True)


@pytest.fixture
def client(lab: Lab) -> Iterator[SyncPrefectClient]:
    """Prefect's client."""
    with lab.client() as client:
        yield client


@pytest.fixture
def start(lab: Lab, client: SyncPrefectClient) -> Start:
    """Start a run: `start("once", seconds=5, manner="quiet", lane="a")`."""

    def create(kind: str, *, lane: str = "a", key: str | None = None, **parameters: object) -> UUID:
        deployment = client.read_deployment_by_name(f"{kind}/{kind}-lane-{lane}")
        flow_run = client.create_flow_run_from_deployment(
            deployment.id,
            parameters={"ledger": str(lab.ledger), **parameters},
            idempotency_key=key or str(uuid4()),
        )
        return flow_run.id

    return create
