"""Plain pg_dump and a backup of the same database, and programs that work in it meanwhile."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from deployments.room.postgres import PROGRAMS
from flows.backup.folder import Folder
from flows.odoo_db_backup import odoo_db_backup

_numbers = itertools.count()


def create(server: str, *, options: str = "") -> str:
    """A new database of this server."""
    name = f"beside_{next(_numbers)}"
    with psycopg.connect(server.format(database="postgres"), autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}".encode())
    return name


def pg_dump(server: str, database: str) -> float:
    """How many seconds plain pg_dump takes, and it does not fail."""
    url = server.format(database=database)
    with psycopg.connect(url, client_encoding="UTF8") as db:
        encoding = db.info.parameter_status("server_encoding")
    started = time.monotonic()
    plain: list[str | Path] = [
        PROGRAMS / "pg_dump",
        "--format=custom",
        "--no-sync",
        "--file=/dev/null",
        f"--encoding={encoding}",
        f"--dbname={url}",
    ]
    done = subprocess.run(plain, capture_output=True, text=True, errors="replace", timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - started


def backup(database: str) -> dict[str, Any]:
    """A backup with its drill, of which nothing was left out."""
    result = odoo_db_backup(database, restore_drill=True)
    assert "not_drilled" not in result["drill"], result
    assert uncounted(result) == []
    return result


def uncounted(result: dict[str, Any]) -> list[str]:
    """What a backup did not count."""
    dump = Path(result["file"])
    (made,) = (one for one in Folder(dump.parent).backups(dump.name.rpartition("_")[0]) if one.name.dump == dump.name)
    assert made.manifest is not None
    assert made.manifest.contents is not None
    return made.manifest.contents.uncounted


@dataclass
class Waits:
    """How long a program waited for the database, in seconds, each time."""

    seconds: list[float]
    errors: list[str]


@contextmanager
def working(
    server: str, database: str, work: Callable[[psycopg.Connection[Any]], object], *, every: float = 0.02
) -> Iterator[Waits]:
    """A program that works in the database all the time, until the end of the block."""
    waits, stop = Waits([], []), threading.Event()

    def loop() -> None:
        with psycopg.connect(server.format(database=database), autocommit=True, prepare_threshold=None) as db:
            while not stop.is_set():
                started = time.monotonic()
                try:
                    work(db)
                except psycopg.Error as error:
                    waits.errors.append(str(error))
                waits.seconds.append(time.monotonic() - started)
                stop.wait(every)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield waits
    finally:
        stop.set()
        thread.join(60)
