"""Which code `ops deploy` has deployed on this host: a worker executes it from then on, without a restart.

A digest of it stands in `OPS_HOME/deployed-code`. A worker does not follow the files themselves: those of a checkout
that is just being changed fit together no sooner than somebody says so.
"""

from __future__ import annotations

from pathlib import Path

from opsdb.errors import OpsError
from opsdb.private_files import read_private, replace_private
from opsdb.settings import Settings


def note_code(settings: Settings, digest: str) -> None:
    """Note what is deployed. Raises OSError."""
    if _read(_path(settings)) != digest:
        replace_private(_path(settings), digest)


class DeployedCode:
    """What is deployed, as one process last saw it."""

    def __init__(self, settings: Settings) -> None:
        self._file = _path(settings)
        self._version = self._look()
        self._digest = _read(self._file)
        self._found = (self._version, self._digest)

    def has_changed(self) -> bool:
        """Whether other code is deployed than was taken up last, or than at the beginning. Costs a `stat`."""
        version = self._look()
        if version == self._version:
            return False
        self._found = (version, _read(self._file))
        if self._found[1] in (None, self._digest):
            self.taken_up()
            return False
        return True

    def taken_up(self) -> None:
        """What was found to have changed has been loaded: say so of what comes after it alone."""
        self._version, self._digest = self._found

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self._file.lstat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino


def _path(settings: Settings) -> Path:
    return settings.home / "deployed-code"


def _read(path: Path) -> str | None:
    try:
        return read_private(path)
    except (OSError, OpsError):
        return None
