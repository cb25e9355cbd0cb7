"""The room: how it starts and stops. `python -m deployments.room.room` runs it in the background."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deployments.room import child
from deployments.room.disk import check_disk
from deployments.room.parts import parts
from deployments.room.ports import check_ports, prefect_sockets
from deployments.room.report import RoomReport, current_report, deciding_settings, only_supervisor, read_report
from deployments.room.restoring import check_whole, drop_unbegun
from deployments.room.supervisor import Supervisor
from deployments.server import access
from opsdb.errors import OpsError, RoomUnreachableError, UsageError
from opsdb.open_files import allow_open_files
from opsdb.processes.identity import boot_id
from opsdb.setting_sources import as_environment
from opsdb.settings import Settings, load_settings
from opsdb.settings_file import NAME, write_own
from opsdb.standard_streams import make_unfailing

OnTurn = Callable[[RoomReport], None]


def run(settings: Settings, *, on_turn: OnTurn = lambda _report: None) -> None:
    """Be the room until a signal ends it. All that was started is stopped on the way out.

    Raises UsageError when another one runs, a port is taken, the disk is full, too few files may be open or a restore
    is not over, and RoomUnreachableError when a part does not start.
    """
    allow_open_files()
    check_disk(settings)
    before = os.umask(0o077)
    try:
        with only_supervisor(settings.home):
            check_whole(settings.home)
            drop_unbegun(settings.home)  # what a restore that was killed had unpacked: all secrets of another room
            stop_leftovers(settings.home)
            check_ports(settings)
            with prefect_sockets(settings) as sockets:
                access.make_secrets(settings)
                access.write_profile(settings)
                _note_where_it_is(settings)
                wanted = parts(settings, prefect_sockets=[one.fileno() for one in sockets])
                decided_by = deciding_settings(settings)
                Supervisor(wanted, home=settings.home, ui=settings.server_address, decided_by=decided_by).run(on_turn)
    finally:
        os.umask(before)


def _note_where_it_is(settings: Settings) -> None:
    """Let commands in other terminals find the room. The room runs even if they cannot."""
    ports = {name: getattr(settings, name) for name in ("prefect_port", "health_port", "exporter_port")}
    try:
        write_own(settings.home, ports, defaults={name: Settings.model_fields[name].default for name in ports})
    except (OSError, UsageError) as error:
        print(
            f"ops: warning: the room could not note where it is in {settings.home / NAME}: {error}. Hint: other "
            f"terminals reach it with {' '.join(f'OPS_{name.upper()}={port}' for name, port in ports.items())}",
            file=sys.stderr,
        )


def stop_leftovers(home: Path) -> list[str]:
    """Stop the parts that outlived a killed supervisor, last one first. Returns their names."""
    report = read_report(home)
    if report is None or report.boot != boot_id():
        return []
    stopped = []
    for part in reversed(report.parts):
        identity = part.identity
        if identity is None or not child.send(identity, part.stop_signal):
            continue
        stopped.append(part.name)
        if not child.wait_gone(identity, 10):
            child.send(identity, signal.SIGKILL, group=True)
            child.wait_gone(identity, 5)
    return stopped


def start_detached(settings: Settings, *, on_turn: OnTurn) -> RoomReport:
    """Start the room in the background and wait until it is ready. Returns its report.

    Raises what the background process died of.
    """
    current = current_report(settings.home)
    if current is not None:
        raise UsageError(
            f"the room runs already (pid {current.pid}, UI {current.ui}): `ops status` shows it, `ops down` stops it"
        )
    check_disk(settings)
    log = settings.home / "log" / "room.log"
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with child.open_log(log) as output:
        begin = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.room.room"],
            env=os.environ | as_environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return _wait_ready(settings, process, on_turn=on_turn, log=log, begin=begin)
    except BaseException:
        process.terminate()  # Ctrl-C: it stops what it started
        process.wait(settings.timings.room_stop)
        raise


def _wait_ready(
    settings: Settings, process: subprocess.Popen[bytes], *, on_turn: OnTurn, log: Path, begin: int
) -> RoomReport:
    while True:
        code = process.poll()
        report = read_report(settings.home)
        if code is not None:
            words = log.read_bytes()[begin:].decode(errors="replace").strip().splitlines()
            message = words[-1].removeprefix("ops: ") if words else f"the room ended with exit code {code}"
            raise (UsageError if code == 2 else RoomUnreachableError)(message)
        if report is not None and report.pid == process.pid:
            on_turn(report)
            if report.state == "ready":
                return report
        time.sleep(0.1)


@dataclass(frozen=True)
class Stopped:
    """What `stop_room` found: a room that ran, or parts that a killed one had left."""

    report: RoomReport | None = None
    leftovers: tuple[str, ...] = ()


def stop_room(settings: Settings) -> Stopped:
    """Stop the room that runs here, or what a killed one left.

    Raises OpsError when it does not end in time.
    """
    home, seconds = settings.home, settings.timings.room_stop
    report = current_report(home)
    if report is None:
        return Stopped(leftovers=tuple(stop_leftovers(home)))
    child.send(report.supervisor, signal.SIGTERM)
    if not child.wait_gone(report.supervisor, seconds):
        raise OpsError(f"the room (pid {report.pid}) did not stop within {seconds:.0f} s: see {home / 'log'}")
    return Stopped(report)


def main() -> None:
    """Run the room without a terminal. Errors are one line and an exit code."""
    make_unfailing()
    try:
        run(load_settings())
    except OpsError as error:
        print(f"ops: {error}", file=sys.stderr, flush=True)
        sys.exit(3 if isinstance(error, RoomUnreachableError) else 2)


if __name__ == "__main__":
    main()
