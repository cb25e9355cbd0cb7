"""`ops sync` beside a Prefect server that all tests share, with an ops database of each test's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from pydantic import SecretStr
from sqlalchemy import Engine

from deployments.server import access
from opsdb.database import connect
from opsdb.settings import Settings
from tests.integration.deployments.sync.following import Syncing
from tests.support.children import child


@pytest.fixture
def room(settings: Settings, prefect_room: Settings) -> Settings:
    """The running Prefect server with an ops database of this test alone."""
    return prefect_room.model_copy(update={"database_url": SecretStr(settings.ops_url)})


@pytest.fixture
def kind() -> str:
    """The name of a flow of this test alone: the server is shared. It is never executed, its states are set."""
    return f"kind-{uuid4()}"


@pytest.fixture
def deployment_id(client: SyncPrefectClient, kind: str) -> UUID:
    """A runbook in lane A."""
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
    flow_id = client.create_flow_from_name(kind)
    return client.create_deployment(flow_id, "lane-a", work_pool_name="lane-a", entrypoint="x.y", tags=["runbook"])


@pytest.fixture
def engine(room: Settings) -> Iterator[Engine]:
    engine = connect(room, application="test")
    yield engine
    engine.dispose()


@pytest.fixture
def syncing(room: Settings, tmp_path: Path) -> Syncing:
    """Start `ops sync` as the room does; settings are keywords."""
    env = access.inherited(os.environ) | {
        "OPS_HOME": str(room.home),
        "OPS_DATABASE_URL": room.ops_url,
        "OPS_PREFECT_PORT": str(room.prefect_port),
        "OPS_PREFECT_DATABASE": room.prefect_database,
    }
    argv = [sys.executable, "-m", "cli", "sync"]
    return lambda **settings: child(argv, env | settings, tmp_path / "sync.log")
