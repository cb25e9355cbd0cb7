"""`ops board`: what the room is doing now, live in the terminal."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cli.options import JsonOption
from cli.text import clock, console, print_json, safe_line, show

if TYPE_CHECKING:
    from rich.text import Text

    from opsdb.runs.backups import LastProof
    from opsdb.runs.board import Board
    from opsdb.settings import Settings

POLL_SECONDS = 1.0
PROOFS_SECONDS = 60.0
"""How long the last verified backups are shown before they are read again: reading looks at all backups."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="The room")(board)


def board(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Print it once and end; so it does where there is no terminal.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the room is doing: lanes and their steps, the queue and why it waits, approvals, sessions, verified
    backups, alerts.

    It is drawn again each second, until Ctrl-C. All of it comes from the ops database, so it also shows while Prefect
    is down, and continues after an outage of the database. Reasons that only Prefect knows: `ops show RUN`.

    Example: ops board

    Example: ops board --once
    """
    from opsdb.settings import load_settings

    settings = load_settings()
    if as_json:
        from cli.board_view import board_document

        print_json(board_document(_read(settings), slots=settings.lane_limit))
    elif once or not console.is_terminal:
        from cli.board_view import board_lines

        for line in board_lines(_read(settings), width=console.width, height=None):
            show(line)
    else:
        show_live(settings)


def show_live(settings: Settings, *, pause: Callable[[float], None] = time.sleep) -> None:
    """Draw the board again and again, on a screen of its own that goes with it, until Ctrl-C or SIGTERM.

    Raises RoomUnreachableError when the database does not answer at first. Later outages are shown and waited out.
    """
    from rich.console import Group
    from rich.live import Live

    from cli.board_view import board_lines
    from opsdb.errors import RoomUnreachableError

    seen, note, answered = _read(settings), "", datetime.now(UTC)
    proven_at = seen.now
    with _ended_by_signals(), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            lines: list[Text] = board_lines(seen, width=console.width, height=console.height, note=note)
            live.update(Group(*lines), refresh=True)
            pause(POLL_SECONDS)
            try:
                fresh = abs((seen.now - proven_at).total_seconds()) < PROOFS_SECONDS
                seen, note, answered = _read(settings, seen.proofs if fresh else None), "", datetime.now(UTC)
                proven_at = proven_at if fresh else seen.now
            except RoomUnreachableError as error:
                note = safe_line(f"As of {clock(answered)}: {error}", width=300)


def _read(settings: Settings, proofs: list[LastProof] | None = None) -> Board:
    from opsdb.runs.board import read_board
    from opsdb.runs.lookup import reading

    with reading(settings) as db:
        return read_board(db, online_seconds=settings.timings.online, proofs=proofs)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let Ctrl-C end the board with 0, and SIGTERM or a closed terminal give the screen back, too."""

    def end(number: int, _frame: object) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
