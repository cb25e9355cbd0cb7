"""How the room's start, state and stop look on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rich.console import RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cli.text import console, lines, own_name, safe_line
from deployments.room.report import GOOD, SILENT_SECONDS, PartReport, RoomReport

STYLE = {
    "ready": "green",
    "done": "green",
    "starting": "yellow",
    "restarting": "bold red",
    "not ready": "bold red",
    "dead": "bold red",
}


SAY_SECONDS = 15
"""Between two lines about a part that still starts, where there is no terminal to redraw."""


class Progress:
    """Draws the parts as they get ready, then says each change in a line."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._said: dict[str, tuple[str, int, int]] = {}
        self._ready = False

    def show(self, report: RoomReport) -> None:
        """Draw or say what changed since the last call."""
        if not self._ready and report.state == "starting" and console.is_terminal:
            if self._live is None:
                # no thread of its own: the supervisor forks
                self._live = Live(console=console, auto_refresh=False)
                self._live.start()
            self._live.update(_starting(report), refresh=True)
        elif self._live is not None:
            self._live.update(_starting(report), refresh=True)
            self.close()
            self._said = {part.name: _news(part) for part in report.parts}
        else:
            self._say(report)
        self._ready = self._ready or report.state != "starting"

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _say(self, report: RoomReport) -> None:
        for part in report.parts:
            now = _news(part)
            if self._said.get(part.name, ("waiting", 0, 0)) != now:
                self._said[part.name] = now
                console.print(_line(part), style=STYLE.get(part.state, "dim"), markup=False)


def welcome(report: RoomReport, home: Path, *, detached: bool) -> Panel:
    """What an operator needs to know of a room that is ready."""
    ops = own_name()
    addresses_by_part = {part.name: part.address for part in report.parts}
    end = f"`{ops} down` stops it" if detached else "Ctrl-C stops it"
    return Panel(
        f"Prefect UI   {report.ui}\n"
        f"Password     [bold]{ops} password[/] prints it; the UI asks for it once\n"
        f"             (it is `prefect_auth_string` in {home / 'secrets.json'})\n\n"
        f"Metrics      {addresses_by_part.get('exporter', '')}\n"
        f"Try          [bold]{ops} status[/], [bold]{ops} run --help[/], [bold]{ops} runs[/]\n"
        f"Logs         {home / 'log'}" + "".join(f"\nNote         {part.note}" for part in report.parts if part.note),
        title="the room is ready",
        subtitle=end,
        border_style="green",
        expand=False,
    )


def parts_table(report: RoomReport) -> Table:
    """Every part with its state, for `ops status`."""
    table = Table(box=None, pad_edge=False)
    for column in ("part", "state", "pid", "since (UTC)", "restarts", "last exit"):
        table.add_column(
            column, justify="right" if column in ("pid", "restarts", "last exit") else "left", no_wrap=True
        )
    for part in report.parts:
        table.add_row(
            part.name,
            f"[{STYLE.get(part.state, 'dim')}]{part.state}[/]",
            str(part.pid or ""),
            _clock(part.since),
            str(part.restarts),
            "" if part.last_exit is None else str(part.last_exit),
        )
    return table


def faults(report: RoomReport, *, full: str | None) -> list[str]:
    """What keeps the room from being ready, a clause each. `full` says that its disk is."""
    found = [f"{part.name} is {part.state}" for part in report.parts if part.state not in GOOD]
    if report.silent_seconds > SILENT_SECONDS:
        seconds = f"{report.silent_seconds:.0f} s"
        found.insert(0, f"the supervisor has reported nothing for {seconds}: it hangs, or its disk is full")
    return found + (["its disk is full"] if full else [])


def addresses(report: RoomReport, *, full: str | None = None) -> Text:
    """Where the parts answer, and what an operator should know of them, a line each."""
    wrong = "; ".join(faults(report, full=full)) if report.state == "not ready" else ""
    rows = [(part.name, part.address) for part in report.parts if part.address]
    notes = [("note", f"{part.name}: {part.note}") for part in report.parts if part.note]
    return Text("\n") + lines(
        [("room", f"{report.state}, pid {report.pid}" + (f": {wrong}" if wrong else "")), *rows, *notes]
    )


def _clock(at: str | None) -> str:
    if at is None:
        return ""
    moment = datetime.fromisoformat(at).astimezone(UTC)
    return f"{moment:%H:%M:%S}" if moment.date() == datetime.now(UTC).date() else f"{moment:%Y-%m-%d %H:%M}"


def _starting(report: RoomReport) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False)
    for part in report.parts:
        again = f"start {part.restarts + 1}" if part.restarts else ""
        table.add_row(
            part.name, f"[{STYLE.get(part.state, 'dim')}]{part.state}[/]", _seconds(part), again, _doing(part)
        )
    return table


def _news(part: PartReport) -> tuple[str, int, int]:
    """What is worth a line when it changes."""
    return part.state, part.restarts, part.starting_seconds // SAY_SECONDS if part.state == "starting" else 0


def _seconds(part: PartReport) -> str:
    if part.ready_seconds is not None:
        return f"{part.ready_seconds:.1f} s"
    return f"{part.starting_seconds} s" if part.state == "starting" and part.starting_seconds else ""


def _doing(part: PartReport) -> str:
    """What a part that starts, or failed to, says of itself, on one line and without markup."""
    return escape(safe_line(part.doing if part.state == "starting" else part.note, width=80))


def _line(part: PartReport) -> str:
    if part.state in ("ready", "done") and part.ready_seconds is not None and not part.restarts:
        return f"{part.name}: {part.state} after {part.ready_seconds:.1f} s"
    if part.state == "restarting":
        note = f"; {part.note}" if part.note else ""
        ended = "ended" if part.last_exit is None else f"ended with exit code {part.last_exit}"
        return f"{part.name}: {ended}, starts again (restart {part.restarts}){note}"
    if part.state == "starting" and part.starting_seconds:
        doing = f": {safe_line(part.doing, width=200)}" if part.doing else ""
        return f"{part.name}: starting, {part.starting_seconds} s{doing}"
    return f"{part.name}: {part.state}"
