"""A real Prefect server on the real PostgreSQL, for tests of what talks to it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from deployments import access
from opsdb.database import connect
from opsdb.migrate import create_database
from opsdb.settings import Settings
from tests.bucket_server import BucketServer, bucket_server
from tests.children import child, free_port

_numbers = itertools.count()


def wait_for_api(settings: Settings, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when Prefect's server answers, within 3 minutes."""
    for _ in range(1800):
        if process.poll() is not None:
            raise RuntimeError(f"the Prefect server ended: {log.read_text()[-2000:]}")
        try:
            if httpx.get(f"{access.ui_url(settings)}/api/health", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the Prefect server did not answer in 3 minutes: {log.read_text()[-2000:]}")


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """Connections to a migrated ops database of this test alone."""
    engine = connect(settings, application="test")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def prefect_room(postgres: str, short_folder: Path) -> Iterator[Settings]:
    """Settings with which a running Prefect server is reached; its ops database is not migrated."""
    settings = Settings(
        home=short_folder / "prefect-room",
        database_url=SecretStr(postgres.format(database="postgres")),
        prefect_database="prefect_tests",
        prefect_port=free_port(),
    )
    create_database(settings.ops_url, settings.prefect_database)
    access.make_secrets(settings)
    log = short_folder / "prefect-server.log"
    env = access.inherited(os.environ) | access.server_env(settings)
    argv = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    with child([*argv, "--port", str(settings.prefect_port)], env, log) as process:
        wait_for_api(settings, process, log)
        yield settings


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
