"""`OPS_HOME/room.json`, what the supervisor says of the room, and `OPS_HOME/room.lock`, which makes it the only one."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.processes.identity import Identity, boot_id
from opsdb.setting_sources import variable
from opsdb.settings import Settings

RoomState = Literal["starting", "ready", "not ready", "stopping", "stopped", "failed"]
PartState = Literal["waiting", "starting", "ready", "done", "not ready", "restarting", "stopped", "dead"]

GOOD: tuple[PartState, ...] = ("ready", "done")
SILENT_SECONDS = 30.0
_DECIDING = ("prefect_yaml", "templates", "runbooks", "stored_commands")


@dataclass(frozen=True)
class PartReport:
    """One part of the room. `since` is ISO 8601, `ready_seconds` the time from its start until it was ready.

    While it starts, `starting_seconds` says for how long, and `doing` what its log says last.
    """

    name: str
    state: PartState = "waiting"
    pid: int | None = None
    start_ticks: int | None = None
    since: str | None = None
    restarts: int = 0
    last_exit: int | None = None
    ready_seconds: float | None = None
    address: str = ""
    note: str = ""
    stop_signal: int = 15
    starting_seconds: int = 0
    doing: str = ""

    @property
    def identity(self) -> Identity | None:
        """Its process."""
        return None if self.pid is None or self.start_ticks is None else Identity(self.pid, self.start_ticks)


@dataclass(frozen=True)
class RoomReport:
    """The whole room. `alive_at` is the monotonic clock, which all processes of one boot share.

    The supervisor writes `ready` once every part has been ready; `not ready` is what a reader sees when one is not now.
    `decided_by` are the settings that it has of those that decide which runbooks there are, by `deciding_settings`.
    """

    pid: int
    start_ticks: int
    boot: str
    state: RoomState
    started_at: str
    ui: str
    alive_at: float = 0.0
    error: str | None = None
    parts: tuple[PartReport, ...] = field(default=())
    decided_by: Mapping[str, str] = field(default_factory=dict)

    @property
    def supervisor(self) -> Identity:
        """The process that wrote this."""
        return Identity(self.pid, self.start_ticks)

    @property
    def running(self) -> bool:
        """Whether that process still runs."""
        return self.boot == boot_id() and self.supervisor.alive

    @property
    def silent_seconds(self) -> float:
        """For how long the supervisor has not said anything."""
        return time.monotonic() - self.alive_at

    @property
    def all_ready(self) -> bool:
        """Whether every part does its work."""
        return self.state == "ready" and all(part.state in GOOD for part in self.parts)


def deciding_settings(settings: Settings) -> dict[str, str]:
    """The settings that decide which runbooks are deployed and executed, by variable; empty for what is not set."""
    return {variable(name): str(getattr(settings, name) or "") for name in _DECIDING}


def differing_runbooks(settings: Settings) -> str | None:
    """How the room that runs decides otherwise than these settings which runbooks there are; None where it does not."""
    report = current_report(settings.home)
    if report is None:
        return None
    ours = deciding_settings(settings)
    differs = [
        f"the room runs with {name}={theirs or '(not set)'}, and here it is {ours[name] or 'not set'}"
        for name, theirs in report.decided_by.items()
        if theirs != ours.get(name, theirs)
    ]
    return ", ".join(differs) or None


def room_path(home: Path) -> Path:
    """Where the report stands."""
    return home / "room.json"


def write_report(home: Path, report: RoomReport) -> None:
    """Replace the report in one piece. Raises OSError, and leaves the old one, when the disk does not take it."""
    path = room_path(home)
    temporary = path.with_name(f".room.json.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(asdict(report), indent=2) + "\n")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_report(home: Path) -> RoomReport | None:
    """What the last supervisor wrote, true or not; None when there is nothing that can be read."""
    try:
        value = json.loads(room_path(home).read_text())
        parts = tuple(PartReport(**part) for part in value.pop("parts"))
        return RoomReport(**value, parts=parts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def current_report(home: Path) -> RoomReport | None:
    """The report of a room that runs, compared with the processes that are there; None when none runs."""
    report = read_report(home)
    if report is None or not report.running:
        return None
    silent = report.silent_seconds > SILENT_SECONDS
    seen = replace(report, parts=tuple(_seen(part, silent=silent) for part in report.parts))
    return replace(seen, state="not ready") if seen.state == "ready" and (silent or not seen.all_ready) else seen


def _seen(part: PartReport, *, silent: bool) -> PartReport:
    if part.state == "ready" and part.identity is not None and not part.identity.alive:
        return replace(part, state="dead")
    # a stopped supervisor checks nothing, so what it said no longer counts
    return replace(part, state="not ready") if silent and part.state == "ready" else part


@contextmanager
def only_supervisor(home: Path, *, command: str = "") -> Iterator[None]:
    """Be the one supervisor of this OPS_HOME. The kernel gives the lock back when the process ends.

    `command` is who keeps a room from starting without being one. Raises UsageError when a room runs, and
    RoomUnreachableError for such a command: it ends by itself, so that a later try succeeds.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home / "room.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if holder := os.pread(descriptor, 200, 0).decode(errors="replace"):
                raise RoomUnreachableError(f"{holder} works in {home}: repeat this when that is over") from None
            report = read_report(home)
            known = f" (pid {report.pid}, UI {report.ui})" if report and report.running else ""
            raise UsageError(f"the room runs already{known}: `ops status` shows it, `ops down` stops it") from None
        os.ftruncate(descriptor, 0)  # a process that was killed has left its name there
        os.pwrite(descriptor, f"`{command}` (pid {os.getpid()})".encode() if command else b"", 0)
        yield
    finally:
        os.close(descriptor)
