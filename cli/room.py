"""`ops up`, `ops down`, `ops status`, `ops password`: the room on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict, replace
from typing import Annotated

import typer

from cli.room_view import Progress, addresses, faults, parts_table, welcome
from cli.text import console, own_name, print_json, say
from deployments.room.disk import describe_full
from deployments.room.report import GOOD, PartReport, RoomReport, current_report, only_supervisor
from opsdb.errors import OpsError, RoomUnreachableError
from opsdb.setting_sources import as_environment
from opsdb.settings import Settings, load_settings
from opsdb.states import RunStatus

DEMO_RUN = ("run", "odoo_db_backup", "-p", "odoo_db=odoo_prod", "--lane", "A", "--wait")
DEMO_NEXT = ("runs", "run odoo_db_backup -p odoo_db=odoo_staging --lane B --wait", "status")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (up, down, status, password):
        app.command(rich_help_panel="The room")(command)


def up(
    *,
    demo_: Annotated[
        bool, typer.Option("--demo", help="Make two Odoo-like databases and back one of them up.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return when the room is ready.")] = False,
) -> None:
    """Start the room: PostgreSQL, Prefect, the four lanes, the sync, the metrics.

    It stays in the foreground: Ctrl-C stops everything it started. Exit code 2 when the room runs already, 3 while
    `ops db backup` or `ops db restore` works there. All state lies in OPS_HOME (.ops here). With
    OPS_DATABASE_URL that PostgreSQL server is used instead of one of the room's own.

    Example: ops up --demo

    Example: ops up --detach; ops status; ops down
    """
    from deployments.room import demo, room
    from exporter.alerting.authorities import read_authorities
    from exporter.alerting.routes import read_orders

    settings = load_settings()
    # what the alerter refuses is refused here, not in the log of a part
    read_authorities(settings.alert_ca_file)
    read_orders(settings)
    if demo_:
        demo.check_demo(settings)
    if detach:
        with closing(Progress()) as progress:
            report = room.start_detached(settings, on_turn=progress.show)
        console.print(welcome(report, settings.home, detached=True))
        if demo_:
            raise typer.Exit(_report_demo(_start_demo(settings).wait(), report, detached=True))
        return
    foreground = _Foreground(settings, demo_run=demo_)
    with closing(foreground):
        room.run(settings, on_turn=foreground.turn)
    console.print("The room is stopped: nothing it started still runs.", style="green")


def down() -> None:
    """Stop the room. Exit code 0, also when none runs.

    Runs that still execute get OPS_DRAIN_SECONDS to end, then they are stopped.
    """
    from deployments.room import room

    settings = load_settings()
    if current_report(settings.home) is not None and (running := _executing(settings)):
        say(
            f"Waits up to {settings.timings.drain:g} s for {', '.join(running)}. What is not over then is stopped: it "
            "fails, or starts over at the next `ops up` where its runbook allows that."
        )
    stopped = room.stop_room(settings)
    if stopped.report is not None:
        console.print(f"The room (pid {stopped.report.pid}) is stopped.")
    elif stopped.leftovers:
        console.print(f"Stopped what a killed room had left: {', '.join(stopped.leftovers)}.")
    else:
        console.print(f"No room runs in {settings.home}.", markup=False)


def _executing(settings: Settings) -> list[str]:
    """The runs that execute now, by name; none where the database does not say."""
    from cli.run.view import called
    from opsdb.runs.lookup import list_runs, reading, short_id

    try:
        with reading(settings) as db:
            found = [
                view.run for status in (RunStatus.CLAIMED, RunStatus.RUNNING) for view in list_runs(db, status=status)
            ]
    except OpsError:
        return []
    return [f"run {short_id(run.id)} ({called(run)})" for run in found]


def status(*, json_: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False) -> None:
    """Show the parts of the room.

    Exit code 0: all are ready, 1: some are not, or the disk is full, 3: the room does not run.
    """
    settings = load_settings()
    report = current_report(settings.home)
    if report is None:
        if json_:
            print_json({"state": "stopped", "ready": False, "home": settings.home, "parts": []})
            raise typer.Exit(3)
        raise RoomUnreachableError(f"no room runs in {settings.home}: start it with `ops up`")
    full = describe_full(settings.home)
    state = "not ready" if full and report.state == "ready" else report.state
    report = replace(report, state=state, parts=tuple(_explained(part, settings) for part in report.parts))
    if json_:
        print_json(_as_json(report, settings, full=full))
    else:
        console.print(parts_table(report))
        console.print(addresses(report, full=full), soft_wrap=True)
        if full:
            say(full, style="bold red")
    raise typer.Exit(0 if report.all_ready else 1)


def password(
    *,
    new: Annotated[bool, typer.Option("--new", help="Replace it first. Only while the room does not run.")] = False,
) -> None:
    """Print the password of the Prefect UI, which asks for it once: the room's auth string.

    It opens Prefect's whole API: keep it where passwords are kept. With --new the old one opens nothing any more, while
    blocks stay readable.

    Example: ops down; ops password --new; ops up
    """
    from deployments.server import access

    settings = load_settings()
    secrets = access.read_secrets(settings)
    if new:
        # each process of a running room, and of its runs, holds the old one
        with only_supervisor(settings.home, command="ops password --new"):
            secrets = access.renew_password(settings)
    sys.stdout.write(secrets.prefect_auth_string + "\n")


class _Foreground:
    """What `ops up` shows and does between two looks at the parts."""

    def __init__(self, settings: Settings, *, demo_run: bool) -> None:
        self._settings = settings
        self._demo_wanted = demo_run
        self._demo: subprocess.Popen[bytes] | None = None
        self._progress = Progress()
        self._welcomed = False

    def turn(self, report: RoomReport) -> None:
        """Show progress; once the room is ready, welcome the operator and start the demo."""
        self._progress.show(report)
        if report.state == "ready" and not self._welcomed:
            self._welcomed = True
            console.print(welcome(report, self._settings.home, detached=False))
            if self._demo_wanted:
                self._demo = _start_demo(self._settings)
        if self._demo is not None:
            if report.state == "stopping":
                self.close()
            elif (code := self._demo.poll()) is not None:
                self._demo = None
                _report_demo(code, report, detached=False)

    def close(self) -> None:
        """End the demo's run command if it still waits, and give the terminal back."""
        self._progress.close()
        if self._demo is not None:
            self._demo.terminate()
            try:
                self._demo.wait(5)
            except subprocess.TimeoutExpired:
                self._demo.kill()
                self._demo.wait()
            self._demo = None


def _start_demo(settings: Settings) -> subprocess.Popen[bytes]:
    from deployments.room import demo

    made = demo.make_databases(settings)
    console.print(f"demo databases made: {', '.join(made)}" if made else "demo databases: there already")
    console.print(f"$ ops {' '.join(DEMO_RUN)}", style="bold")
    return subprocess.Popen([sys.executable, "-m", "cli", *DEMO_RUN], env=os.environ | as_environment(settings))


def _report_demo(code: int, report: RoomReport, *, detached: bool) -> int:
    if code:
        console.print(f"The demo's run ended with exit code {code}.", style="bold red")
        return code if code in (1, 2, 3) else 1
    console.print(f"Prefect UI: {report.ui}  (`{own_name()} password` prints its password)")
    console.print("Try next:" if detached else "Try next, in another terminal:")
    for command in DEMO_NEXT:
        console.print(f"  {own_name()} {command}", style="bold", soft_wrap=True)
    return 0


def _explained(part: PartReport, settings: Settings) -> PartReport:
    """The part, with a note of who holds up its work where that is known."""
    if part.state in GOOD:
        return part
    from deployments.room.readiness import explain_silence  # asks the database, which takes long to import

    why = explain_silence(settings, part.name)
    return part if why is None else replace(part, note=f"{why.found}: {why.advice}")


def _as_json(report: RoomReport, settings: Settings, *, full: str | None) -> dict[str, object]:
    hidden = ("start_ticks", "stop_signal")
    return {
        "state": report.state,
        "ready": report.all_ready,
        "faults": faults(report, full=full),
        "pid": report.pid,
        "started_at": report.started_at,
        "ui": report.ui,
        "home": settings.home,
        "disk": full,
        "parts": [{key: value for key, value in asdict(part).items() if key not in hidden} for part in report.parts],
    }
