"""`OPS_HOME/restoring/begun.json`: a restore of the room that is not over. A room does not start beside it."""

from __future__ import annotations

import os
import shlex
import shutil
from datetime import datetime
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from opsdb.errors import UsageError
from opsdb.private_files import read_private, replace_private


class Begun(BaseModel):
    """What a restore decided before it changed anything, so that a repetition resumes with it."""

    model_config = ConfigDict(extra="forbid")

    archive: UUID
    file: str
    begun_at: datetime
    stamp: str
    """What the names of things that were put aside end with."""
    replaced: list[str]
    """The databases that were put aside, of `ops` and `prefect`."""
    room: UUID
    """The new id of the room."""
    take_over: bool
    prefect_database: str
    """As the settings call it that count once the restore is done."""
    server: str
    """Where the databases are, by `restore`."""
    keeps_settings: bool
    """Whether this host's settings file stays, and that of the old room comes beside it."""


def staging(home: Path) -> Path:
    """The folder of what is to come into its place."""
    return home / "restoring"


def read_begun(home: Path) -> Begun | None:
    """The restore that is not over, or None. Raises UsageError for a file that cannot be read."""
    try:
        return Begun.model_validate_json(read_private(_path(home)))
    except FileNotFoundError:
        return None
    except ValidationError:
        raise UsageError(f"{_path(home)} is broken: move {home} away, and restore into a new OPS_HOME") from None


def write_begun(home: Path, begun: Begun) -> None:
    """Note that it begins, down to the disk. Raises OSError."""
    replace_private(_path(home), begun.model_dump_json(indent=2) + "\n")


def clear(home: Path) -> None:
    """Note that nothing is left to do, down to the disk."""
    _path(home).unlink(missing_ok=True)
    handle = os.open(staging(home), os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(handle)
    os.close(handle)
    drop_unbegun(home)


def drop_unbegun(home: Path) -> None:
    """Remove what lies in the folder, unless a restore has begun that resumes with it."""
    if not _path(home).exists():
        shutil.rmtree(staging(home), ignore_errors=True)


def check_whole(home: Path) -> None:
    """Raise UsageError where a restore is not over: half of one room would work with half of another."""
    begun = read_begun(home)
    if begun is not None:
        command = f"ops db restore {shlex.quote(begun.file)}{' --take-over' * begun.take_over}"
        raise UsageError(
            f"the restore of {begun.file} into {home}, begun {begun.begun_at:%Y-%m-%d %H:%M} UTC, is not over. "
            f"Hint: repeat `{command}`, which resumes it"
        )


def _path(home: Path) -> Path:
    return staging(home) / "begun.json"
