"""A real PostgreSQL for tests, in memory where there is enough of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from deployments.room.postgres import PROGRAMS, EmbeddedPostgres

_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 4 * 1024**3


@contextmanager
def short_folder() -> Iterator[Path]:
    """A new folder, in memory if it can be: its path is short enough for a socket, and the server's user passes."""
    roomy = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ENOUGH_BYTES
    folder = Path(tempfile.mkdtemp(prefix="ops", dir=_MEMORY if roomy else "/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(
    folder: Path, *, programs: Path = PROGRAMS, hba: str = "", listen: tuple[str, int] | None = None
) -> Iterator[str]:
    """Run a server below `folder`, on a new cluster unless one is there; yields a URL pattern with `{database}`.

    `hba` says who may log in, in place of the room's own user as any role.
    """
    server = EmbeddedPostgres(folder / "postgres", programs, listen)
    server.prepare()
    if hba:
        (server.folder / "pg_hba.conf").write_text(hba)
    log = (folder / "postgres.log").open("ab")
    process = subprocess.Popen(server.command, **server.identity, cwd="/", stdout=log, stderr=log)
    url = f"postgresql://postgres@/{{database}}?host={server.socket_dir}"
    try:
        for _ in range(200):
            try:
                psycopg.connect(url.format(database="postgres")).close()
                break
            except psycopg.OperationalError:
                if process.poll() is not None:
                    raise RuntimeError((folder / "postgres.log").read_text()) from None
                time.sleep(0.05)
        yield url
    finally:
        process.send_signal(2)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        log.close()


@contextmanager
def new_database(postgres: str, name: str, *, template: str = "template0") -> Iterator[str]:
    """Make a database for the length of the block: thousands of them would fill the memory. Yields its URL."""
    server = postgres.format(database="postgres")
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
    yield postgres.format(database=name)
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def databases(postgres: str) -> set[str]:
    with psycopg.connect(postgres.format(database="postgres")) as db:
        return {name for (name,) in db.execute("SELECT datname FROM pg_database").fetchall()}
