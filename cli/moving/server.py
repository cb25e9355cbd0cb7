"""The PostgreSQL server of the room, for work that is done whether the room runs or not."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from deployments.room import child
from deployments.room.postgres import EmbeddedPostgres
from deployments.room.report import current_report, only_supervisor
from deployments.room.room import stop_leftovers
from opsdb.errors import OpsError
from opsdb.settings import Settings

START_SECONDS = 120.0
RETRY_SECONDS = 0.2
STOP_SECONDS = 30.0


@contextmanager
def reached_server(settings: Settings, *, command: str) -> Iterator[bool]:
    """Let the room's server answer during the block; yields whether the room runs.

    Where it does not, it cannot be started meanwhile, for it says that `command` works there, and an embedded
    PostgreSQL runs for us alone. Raises OpsError.
    """
    if current_report(settings.home) is not None:
        yield True
        return
    with only_supervisor(settings.home, command=command), running_server(settings):
        yield False


@contextmanager
def running_server(settings: Settings) -> Iterator[None]:
    """Run the embedded PostgreSQL during the block, by its socket alone; a server of its own runs anyway.

    The caller is the only supervisor of this OPS_HOME. Raises OpsError.
    """
    if not settings.embedded:
        yield
        return
    stop_leftovers(settings.home)
    postgres = EmbeddedPostgres(settings.home / "postgres")
    before = os.umask(0o077)
    try:
        postgres.prepare()
    finally:
        os.umask(before)
    log, started_at = settings.home / "log" / "postgres.log", datetime.now(UTC)
    process = _spawn(postgres, log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(settings, started_at):
            if time.monotonic() >= deadline:
                raise OpsError(f"the embedded PostgreSQL did not start: see the end of {log}")
            if child.reap(process) is not None:  # that of a command that was killed may be just about to end
                time.sleep(RETRY_SECONDS)
                process = _spawn(postgres, log)
            time.sleep(0.05)
        yield
    finally:
        child.stop(process, number=signal.SIGINT, grace_seconds=STOP_SECONDS)


def _spawn(postgres: EmbeddedPostgres, log: Path) -> subprocess.Popen[bytes]:
    return child.spawn(
        postgres.command,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        cwd=Path("/"),
        log=log,
        orphan_signal=signal.SIGINT,  # should we be killed, it ends as well
        user=postgres.identity,
    )


def _answers(settings: Settings, started_at: datetime) -> bool:
    """Whether it answers, and not one that was there before."""
    try:
        with psycopg.connect(f"postgresql://postgres@/postgres?host={settings.socket_dir}", connect_timeout=2) as db:
            return db.execute("SELECT pg_postmaster_start_time() >= %s", [started_at]).fetchone() == (True,)
    except psycopg.Error:
        return False
