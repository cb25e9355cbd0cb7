"""Which backups of a room are deleted from a folder once a new one is there."""

from __future__ import annotations

import re
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

from cli.moving.archive import read_manifest
from opsdb.errors import OpsError, UsageError

_UNFINISHED_SECONDS = 86_400.0
"""After which a file that a backup was still writing belongs to one that was killed."""


def new_name() -> str:
    """The name of a new backup of a room on this host: sorted by name, the newest is the last."""
    return f"{_prefix()}{datetime.now(UTC):%Y%m%dT%H%M%SZ}.sealed"


def delete_old(made: Path, passphrase: str, *, home: Path, keep: int) -> list[Path]:
    """Delete older backups of the room in `home` beside a new one, so that `keep` are left with it.

    A file counts by what is in it: those of other rooms, those that this passphrase does not open, and those that a
    person named stay. So does `made`, whatever the clock says. What killed backups of this host left there a day ago is
    deleted as well. Returns the backups that were deleted, the newest first. Raises OpsError.
    """
    name = re.compile(rf"{re.escape(_prefix())}\d{{8}}T\d{{6}}Z\.sealed")
    partial = re.compile(rf"\.{name.pattern}\.\d+\.partial")
    try:
        files = [one for one in made.parent.iterdir() if one.is_file() and not one.is_symlink()]
        for one in files:
            if partial.fullmatch(one.name) and time.time() - one.stat().st_mtime > _UNFINISHED_SECONDS:
                one.unlink(missing_ok=True)
        others = sorted((one for one in files if name.fullmatch(one.name) and one.name != made.name), reverse=True)
        old = [one for one in others if _is_of(one, passphrase, home)][keep - 1 :]
        for one in old:
            one.unlink(missing_ok=True)
    except OSError as error:
        raise OpsError(
            f"the new backup {made} is good, but old ones could not be deleted: {error.strerror}. Hint: delete them "
            f"yourself, and see who owns {made.parent}"
        ) from error
    return old


def _is_of(file: Path, passphrase: str, home: Path) -> bool:
    try:
        with file.open("rb") as opened:
            manifest = read_manifest(opened, passphrase, name=str(file))
    except (UsageError, FileNotFoundError):
        return False
    return (manifest.host, manifest.home) == (socket.gethostname(), str(home))


def _prefix() -> str:
    return f"room-{socket.gethostname()}-"
