"""A folder of one run for the time of one of its steps, which the next run removes if this one is killed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from pathlib import Path

from flows.engine.active_run import current_run
from opsdb.errors import PreflightError


class OwnFolder:
    """A folder from make() until remove(). A lock on it lasts as long as this process, and says that its run lives."""

    def __init__(self, path: Path, *, leftovers: re.Pattern[str]) -> None:
        self.path = path
        self.handle: int | None = None
        """The open folder, and with it the lock."""
        self._leftovers = leftovers

    def make(self, *, event: str) -> None:
        """Make it and remove those of killed runs, whose names match, which is an `event`. Raises PreflightError."""
        parent = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(parent, fcntl.LOCK_EX)  # else another run could remove the new folder before it is locked
            if left := self._clear():
                current_run().event(event, level="warning", folders=left)
            self.path.mkdir(mode=0o700)
            self.handle = _lock(self.path)
            if self.handle is None:
                raise PreflightError(f"{self.path} is in use by another process")
        finally:
            os.close(parent)

    def remove(self) -> None:
        """Remove it with all in it, if it was made."""
        if self.handle is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self.handle)
            self.handle = None

    def _clear(self) -> list[str]:
        cleared = []
        for path in sorted(self.path.parent.iterdir()):
            if not self._leftovers.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
                continue
            lock = _lock(path)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)
                cleared.append(path.name)
        return cleared


def _lock(folder: Path) -> int | None:
    """The open folder with a lock on it, or None where a living process has that."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
