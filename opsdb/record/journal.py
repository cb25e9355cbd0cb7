"""What a run says of itself, on disk before it is in the database.

One file per run process below `OPS_HOME/journal`, one JSON object per line. A run continues while the database is away;
what it could not deliver stays in its file, and `ops sync` delivers it later. The file of a run whose
records all arrived is deleted.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from opsdb.processes.identity import boot_id
from opsdb.settings import Settings

Line = dict[str, Any]
"""An entry of `opsdb.record.entries` as a JSON object."""


def journal_dir(settings: Settings) -> Path:
    """The folder of the journals of this host."""
    return settings.home / "journal"


class Journal:
    """The journal of one run process, which holds a lock on it as long as it lives."""

    def __init__(self, folder: Path, run_id: UUID) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self._torn = False
        self.path = folder / f"{run_id}.{os.getpid()}.jsonl"
        new = self.path.with_suffix(".new")
        self._file = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        new.rename(self.path)  # locked before anyone can take it for an abandoned one

    def append(self, entry: Line) -> None:
        """Add an entry. Once this returns, the death of this process does not lose it. Raises OSError."""
        line = b"\n" * self._torn + json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        self._torn = True  # a full disk takes a part: the next entry must not continue its line
        if os.write(self._file, line) < len(line):
            raise OSError(errno.ENOSPC, "written in part only")
        self._torn = False

    def close(self, *, delivered: bool) -> None:
        """End the journal; delete it when all of it was delivered."""
        if delivered:
            self.path.unlink(missing_ok=True)
        os.close(self._file)


def stamp() -> dict[str, Any]:
    """When an entry was made, in terms that only differences are taken of: no host's clock reaches a table."""
    return {"boot": boot_id(), "uptime": time.clock_gettime(time.CLOCK_BOOTTIME), "wall": time.time()}


def age_seconds(made: dict[str, Any]) -> float:
    """How long ago an entry with that stamp was made, never negative."""
    if made["boot"] == boot_id():
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - made["uptime"]
    else:
        age = time.time() - made["wall"]
    return float(max(0.0, age))


def abandoned(folder: Path) -> Iterator[tuple[Path, list[Line]]]:
    """The journals whose processes are gone, with their entries. A torn last line is left out."""
    for path in sorted(folder.glob("*.jsonl")):
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            yield path, _entries(file)
        finally:
            os.close(file)


def last_words(folder: Path, run_id: UUID, *, attempt: int) -> Line | None:
    """The undelivered `run_closed` entry of an attempt on this host, if there is one."""
    for path in folder.glob(f"{run_id}.*.jsonl"):
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # delivered this moment
            continue
        try:
            entries = _entries(file)
        finally:
            os.close(file)
        for entry in entries:
            if entry.get("op") == "run_closed" and entry.get("attempt") == attempt:
                return entry
    return None


def set_aside(folder: Path, entry: Line, *, reason: str) -> Path:
    """Keep an entry that the database refuses, with the reason, for a person to look at. Returns the file."""
    try:
        name = str(UUID(str(entry.get("run_id"))))
    except ValueError:  # it becomes the name of a file
        name = "unknown"
    path = folder / "refused" / f"{name}.jsonl"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path, "a", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(json.dumps({"refused": reason, "entry": entry}, default=str) + "\n")
    return path


def _entries(file: int) -> list[Line]:
    # by the descriptor that holds the lock: another who delivered meanwhile may have removed the path
    with open(file, "rb", closefd=False) as lines:
        content = lines.read()
    entries = []
    for line in content.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):  # a torn line may end as a number
            entries.append(entry)
    return entries
