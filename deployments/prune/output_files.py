"""The files of this host that runs leave: the output of their steps, and entries that the database refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_ISDIR
from uuid import UUID

from opsdb.record.journal import journal_dir
from opsdb.retention.amounts import Amount, oldest_kept
from opsdb.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What one run wrote, or what the database refused of it: a folder, or a file."""

    path: Path
    run_id: UUID | None
    written_at: datetime
    bytes: int

    @property
    def amount(self) -> Amount:
        """How much it is."""
        return Amount(count=1, bytes=self.bytes, oldest_at=self.written_at)

    def delete(self) -> None:
        """Delete it. A missing file is not an error; what cannot be deleted raises OSError."""
        try:
            if self.path.is_dir():
                shutil.rmtree(self.path)
            else:
                self.path.unlink()
        except FileNotFoundError:
            pass


def step_output(settings: Settings) -> Iterator[Output]:
    """The folder of each run below `OPS_HOME/logs`. What has another name is not of a run, and stays."""
    for folder in _entries(settings.logs):
        if (run_id := _run_id(folder.name)) is not None and folder.is_dir() and not folder.is_symlink():
            try:
                found = [one for path in (folder, *folder.rglob("*")) if (one := _lstat(path)) is not None]
            except FileNotFoundError:  # somebody deletes it
                continue
            if found:
                written_at = datetime.fromtimestamp(max(one.st_mtime for one in found), UTC)
                size = sum(one.st_size for one in found if not S_ISDIR(one.st_mode))
                yield Output(path=folder, run_id=run_id, written_at=written_at, bytes=size)


def old_output(settings: Settings, *, now: datetime) -> list[Output]:
    """What steps wrote that is too old, and the oldest of what is too much. `now` is by this host's clock."""
    found = list(step_output(settings))
    kept = oldest_kept([(one.written_at, one.bytes) for one in found], limit_bytes=settings.log_bytes)
    before = old_before(settings, now=now)
    return [one for one in found if one.written_at < max(before, kept or before)]


def old_before(settings: Settings, *, now: datetime) -> datetime:
    """What steps wrote before is too old: it is deleted no later than the record of its run."""
    return now - timedelta(days=min(settings.log_days, settings.retention_days))


def count_old_output(settings: Settings, *, now: datetime) -> int:
    """Of about how many runs the output is too old, by a look at their folders alone."""
    before = old_before(settings, now=now).timestamp()
    folders = (_lstat(one) for one in _entries(settings.logs) if _run_id(one.name) is not None)
    return sum(found is not None and found.st_mtime < before for found in folders)


def refused_entries(settings: Settings) -> Iterator[Output]:
    """The files of entries that the database refused, below `OPS_HOME/journal/refused`."""
    for file in _entries(journal_dir(settings) / "refused"):
        if (found := _lstat(file)) is None:
            continue
        at = datetime.fromtimestamp(found.st_mtime, UTC)
        yield Output(path=file, run_id=_run_id(file.stem), written_at=at, bytes=found.st_size)


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except FileNotFoundError:
        return


def _lstat(path: Path) -> os.stat_result | None:
    """What is known of it; None where it was just deleted."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _run_id(name: str) -> UUID | None:
    try:
        return UUID(name)
    except ValueError:
        return None
