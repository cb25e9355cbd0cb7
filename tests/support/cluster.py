"""The databases of a room that was started once, made once for all tests of a run and copied: migrating takes long.

A copy writes nothing through to the disk (`fsync=off`): what tests kill is processes, never the machine.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
from pydantic import SecretStr

from deployments.room.databases import prepare_databases
from deployments.room.ports import prefect_sockets
from deployments.room.postgres import EmbeddedPostgres
from deployments.server import access
from opsdb.migrate import create_database
from opsdb.settings import Settings
from tests.support.children import child, free_port
from tests.support.postgres import running, short_folder


def copy_cluster(shared: Path, postgres: EmbeddedPostgres) -> None:
    """Give a server that never ran a cluster with the migrated databases `ops` and `prefect`.

    `shared` is a folder of all processes of this run of tests: the first one puts the cluster there.
    """
    made = shared / "cluster"
    with (shared / "cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with short_folder() as folder:
                _make(folder)
                _copy(folder / "postgres" / "data", shared / "copying")
            (shared / "copying").rename(made)
    postgres.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _copy(made, postgres.data_dir)


def _copy(data: Path, to: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", data, to], check=True)


@contextmanager
def prefect_server(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Prefect server on the settings' database; it answers when the block begins."""
    access.make_secrets(settings)
    env = access.inherited(os.environ) | access.server_env(settings)
    with prefect_sockets(settings) as sockets:
        numbers = [one.fileno() for one in sockets]
        with child(serve_command(numbers), env, log, pass_fds=numbers) as process:
            wait_for_api(settings, process, log)
            yield process


def serve_command(sockets: Sequence[int]) -> list[str]:
    """The program of Prefect's server, as the room starts it."""
    return [sys.executable, "-m", "deployments.server.serve", *map(str, sockets)]


def wait_for_api(settings: Settings, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when Prefect's server answers, within 3 minutes."""
    with httpx.Client(base_url=access.ui_url(settings), timeout=2) as http:  # each one made loads all authorities
        for _ in range(1800):
            if process.poll() is not None:
                raise RuntimeError(f"the Prefect server ended: {log.read_text()[-2000:]}")
            try:
                if http.get("/api/health").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
    raise RuntimeError(f"the Prefect server did not answer in 3 minutes: {log.read_text()[-2000:]}")


def _make(folder: Path) -> None:
    with running(folder) as url:
        with psycopg.connect(url.format(database="postgres"), autocommit=True) as db:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                db.execute(f"ALTER SYSTEM SET {setting} = off".encode())
        settings = Settings(
            home=folder / "home", database_url=SecretStr(url.format(database="ops")), prefect_port=free_port()
        )
        create_database(url.format(database="postgres"), "ops")
        prepare_databases(settings)
        with prefect_server(settings, folder / "prefect.log") as process:  # it migrates, and registers its blocks
            process.kill()  # it would take 5 s to end by itself
