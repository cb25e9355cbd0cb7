"""One lab for all tests of faults; each test finds its parts running and leaves them so."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient

from tests.acceptance.faults.lab import Lab, wait_for

Start = Callable[..., UUID]


@pytest.fixture(scope="session")
def whole_lab() -> Iterator[Lab]:
    """The lab. Its limits for lost and claimed runs are 10 and 15 s, not 30 and 60: waiting is what the tests do."""
    folder = Path(tempfile.mkdtemp(prefix="opslab", dir="/tmp"))
    folder.chmod(0o711)
    lab = Lab(folder, lost_seconds=10, claim_seconds=15, heartbeat_seconds=1, drain_seconds=3)
    try:
        lab.open()
        yield lab
    finally:
        lab.close()
        if not os.environ.get("KEEP_LAB"):
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab(whole_lab: Lab) -> Lab:
    """The lab with all of its parts running."""
    lab = whole_lab
    for name in ("worker", "sync"):  # a test that failed may have left one stopped
        if name in lab.parts and psutil.Process(lab.parts[name].pid).status() == psutil.STATUS_STOPPED:
            lab.kill(name)
    if "postgres" not in lab.parts:
        lab.start_postgres()
    if "prefect" not in lab.parts:
        lab.start_prefect()
    if "worker" not in lab.parts or lab.parts["worker"].poll() is not None:
        lab.start_worker()
    if "sync" not in lab.parts or lab.parts["sync"].poll() is not None:
        lab.start("sync")
    mark = "SELECT 1 AS ok FROM ops.sync_marks WHERE name = 'sweep' AND updated_at > clock_timestamp() - interval '2 s'"
    wait_for(lambda: lab.rows(mark), seconds=30, what="the sync sweeps")
    return lab


@pytest.fixture
def client(lab: Lab) -> Iterator[SyncPrefectClient]:
    """Prefect's client."""
    with lab.client() as client:
        yield client


@pytest.fixture
def start(lab: Lab, client: SyncPrefectClient) -> Start:
    """Start a run: `start("once", seconds=5, manner="quiet", lane="a")`."""

    def create(kind: str, *, lane: str = "a", key: str | None = None, **parameters: object) -> UUID:
        deployment = client.read_deployment_by_name(f"{kind}/lane-{lane}")
        flow_run = client.create_flow_run_from_deployment(
            deployment.id,
            parameters={"ledger": str(lab.ledger), **parameters},
            idempotency_key=key or str(uuid4()),
        )
        return flow_run.id

    return create
