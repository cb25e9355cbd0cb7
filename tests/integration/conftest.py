"""A real Prefect server on the real PostgreSQL, for tests of what talks to it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import psycopg
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    temporary_settings,
)
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from sqlalchemy import Engine, text

from deployments.server import access
from deployments.server.client import pages
from deployments.sync.marks import write_watermark
from opsdb.database import connect
from opsdb.runs.sweeper import sweep
from opsdb.settings import Settings
from tests.integration.sweeper_case import PREFECT_NOW, Case
from tests.support.bucket_server import BucketServer, bucket_server
from tests.support.children import free_port
from tests.support.cluster import prefect_server

_numbers = itertools.count()


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """Connections to a migrated ops database of this test alone."""
    engine = connect(settings, application="test")
    yield engine
    engine.dispose()


@pytest.fixture
def watched(engine: Engine, settings: Settings) -> Engine:
    """The same, where somebody sweeps and Prefect answers, and has for long."""
    with engine.begin() as db:
        sweep(db, settings)
        write_watermark(db, PREFECT_NOW, outage_seconds=settings.timings.prefect_outage)
        db.execute(text("UPDATE ops.sync_marks SET at = at - interval '1 day'"))
    return engine


@pytest.fixture
def case(watched: Engine, settings: Settings) -> Case:
    return Case(watched, settings)


@pytest.fixture(scope="session")
def prefect_room(postgres: str, short_folder: Path) -> Iterator[Settings]:
    """Settings with which a running Prefect server is reached; its ops database is not migrated."""
    settings = Settings(
        home=short_folder / "prefect-room",
        database_url=SecretStr(postgres.format(database="postgres")),
        prefect_database="prefect_tests",
        prefect_port=free_port(),
    )
    with psycopg.connect(settings.ops_url, autocommit=True) as db:
        db.execute("CREATE DATABASE prefect_tests TEMPLATE prefect")
    with prefect_server(settings, short_folder / "prefect-server.log"):
        yield settings


@pytest.fixture
def client(prefect_room: Settings) -> Iterator[SyncPrefectClient]:
    """Prefect's client of that server."""
    auth = access.read_secrets(prefect_room).prefect_auth_string
    with (
        temporary_settings(
            {
                PREFECT_API_URL: f"{access.ui_url(prefect_room)}/api",
                PREFECT_API_AUTH_STRING: auth,
                PREFECT_API_SSL_CERT_FILE: str(access.NO_AUTHORITY),
                PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: True,
            }
        ),
        get_client(sync_client=True) as client,
    ):
        yield client
        leave_nothing_to_do(client, prefect_room)


def leave_nothing_to_do(client: SyncPrefectClient, room: Settings) -> None:
    """Delete the schedules and runs of a test: the server would go on planning them, and each sync reads them."""
    for deployment in list(pages(client.read_deployments)):
        if deployment.schedules:
            client.delete_deployment(deployment.id)
    with psycopg.connect(make_conninfo(room.ops_url, dbname=room.prefect_database)) as db:
        db.execute("DELETE FROM flow_run WHERE id IN (SELECT id FROM flow_run FOR UPDATE SKIP LOCKED)")


@pytest.fixture(scope="session")
def buckets(short_folder: Path) -> Iterator[BucketServer]:
    """An S3-compatible server; see `bucket` for a new bucket on it."""
    with bucket_server(free_port(), short_folder / "moto.log") as server:
        yield server


@pytest.fixture
def bucket(buckets: BucketServer) -> str:
    """The name of a new, empty bucket."""
    name = f"backups-{next(_numbers)}"
    buckets.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def path_folder(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first on this host's PATH, short enough for a socket."""
    folder = Path(mkdtemp(dir=short_folder))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder
