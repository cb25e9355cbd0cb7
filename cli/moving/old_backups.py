"""Which backups of a room are deleted from a folder once a new one is there."""

from __future__ import annotations

import re
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

from opsdb.errors import OpsError

_UNFINISHED_SECONDS = 86_400.0
"""After which a file that a backup was still writing belongs to one that was killed."""


def new_name() -> str:
    """The name of a new backup of a room on this host: sorted by name, the newest is the last."""
    return f"{_prefix()}{datetime.now(UTC):%Y%m%dT%H%M%SZ}.sealed"


def delete_old(folder: Path, *, keep: int) -> list[Path]:
    """Delete all but the newest `keep` backups of this host from a folder, and what killed backups left there.

    Files of other names stay: those of other hosts, and backups that a person named. Returns the backups that were
    deleted, the oldest first. Raises OpsError.
    """
    name = re.compile(rf"{re.escape(_prefix())}\d{{8}}T\d{{6}}Z\.sealed")
    partial = re.compile(rf"\.{name.pattern}\.\d+\.partial")
    try:
        files = sorted(one for one in folder.iterdir() if one.is_file() and not one.is_symlink())
        old = [one for one in files if name.fullmatch(one.name)][:-keep]
        for one in files:
            if partial.fullmatch(one.name) and time.time() - one.stat().st_mtime > _UNFINISHED_SECONDS:
                one.unlink(missing_ok=True)
        for one in old:
            one.unlink(missing_ok=True)
    except OSError as error:
        raise OpsError(
            f"the new backup is good, but old ones could not be deleted from {folder}: {error.strerror}. Hint: delete "
            "them yourself, and see who owns the folder"
        ) from error
    return old


def _prefix() -> str:
    return f"room-{socket.gethostname()}-"
