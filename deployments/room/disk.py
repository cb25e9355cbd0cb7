"""Room on the disk of OPS_HOME: enough before anything starts, and named when it is used up."""

from __future__ import annotations

import shutil
from pathlib import Path

from opsdb.amounts import size
from opsdb.errors import UsageError
from opsdb.settings import Settings

FIRST_BYTES = 150 * 1000 * 1000
"""A new PostgreSQL cluster with both databases takes 70 MB, Prefect's UI 20 MB."""
START_BYTES = 20 * 1000 * 1000
"""The UI is copied at each start."""
FULL_BYTES = 1000 * 1000


def check_disk(settings: Settings) -> None:
    """Look whether the room can start there. Raises UsageError that says how much is free, and how much is needed."""
    first = settings.embedded and not (settings.home / "postgres" / "data").exists()
    needed, free = (FIRST_BYTES if first else START_BYTES), _free(settings.home)
    if free is not None and free < needed:
        raise UsageError(
            f"{settings.home} has {size(free)} free, the room needs {size(needed)} to start: make room on that disk, "
            "or set OPS_HOME to a folder on another one"
        )


def describe_full(home: Path) -> str | None:
    """What a full disk means for a room that runs, and what to do; None while there is room."""
    free = _free(home)
    if free is None or free >= FULL_BYTES:
        return None
    return (
        f"the disk of {home} is full ({size(free)} free): parts run, but nothing is recorded and no run starts. "
        "Make room there; nothing has to be restarted"
    )


def _free(folder: Path) -> int | None:
    for there in (folder, *folder.parents):
        try:
            return shutil.disk_usage(there).free
        except OSError:
            continue
    return None
