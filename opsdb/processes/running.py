"""Which run processes of this room live on this host: one small file per run, below `OPS_HOME/running`.

The files are how the processes of a run are found when whoever started them is gone. A process is known by boot,
pid and start time together, so that a stranger who got the same pid later is never taken for it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import UUID

from opsdb.processes.identity import Identity, boot_id, identify
from opsdb.settings import Settings


@dataclass(frozen=True, kw_only=True)
class RunProcess:
    """A run process as it entered itself."""

    run_id: str
    attempt: int
    pid: int
    start_ticks: int
    boot: str
    puts_back: bool = False
    """Whether it has something to put back before it ends, and is given the time for that when it is cancelled."""

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return self.boot == boot_id() and Identity(self.pid, self.start_ticks).alive


def enter(settings: Settings, *, run_id: UUID, attempt: int) -> Path:
    """Enter this process as that of a run. Returns the file, which whoever ends the run removes."""
    folder = running_dir(settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = identify(os.getpid())
    ticks = own.start_ticks if own else 0
    process = RunProcess(run_id=str(run_id), attempt=attempt, pid=os.getpid(), start_ticks=ticks, boot=boot_id())
    path = folder / f"{run_id}.json"
    _write(path, process)
    return path


def note_putting_back(settings: Settings, run_id: UUID, puts_back: bool) -> None:
    """Enter whether this process, which is that of a run, has something to put back. Says nothing of a full disk."""
    path, process = entry_of(settings, run_id)
    if process is not None and process.pid == os.getpid():
        with contextlib.suppress(OSError):
            _write(path, replace(process, puts_back=puts_back))


def _write(path: Path, process: RunProcess) -> None:
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(asdict(process)))
    new.rename(path)


def entry_of(settings: Settings, run_id: UUID) -> tuple[Path, RunProcess | None]:
    """The file of a run, and the process that it names; None when there is no such file, or a torn one."""
    path = running_dir(settings) / f"{run_id}.json"
    try:
        return path, RunProcess(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return path, None


def entered(settings: Settings) -> Iterator[tuple[Path, RunProcess]]:
    """All run processes that were entered and not removed. A torn file is skipped."""
    for path in sorted(running_dir(settings).glob("*.json")):
        try:
            yield path, RunProcess(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue


def running_dir(settings: Settings) -> Path:
    """The folder of the files."""
    return settings.home / "running"
