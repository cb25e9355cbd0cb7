"""`ops board` on a terminal: it ends with Ctrl-C, gives the screen back, fits it, and goes on without the database."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from cli import board as command
from opsdb.errors import RoomUnreachableError
from opsdb.runs.backups import LastProof
from opsdb.runs.board import Board, LaneBoard
from opsdb.runs.lookup import RunView
from opsdb.settings import Settings
from opsdb.states import RunStatus
from opsdb.tables import Lane
from tests.support.runs_made_up import HOSTILE, details

LEFT = "\x1b[?1049l"
"""With which a terminal shows again what it showed before."""


def made(text: str = "plain") -> Board:
    view: RunView = details(status=RunStatus.QUEUED, text=text).view
    lanes = [LaneBoard(lane=lane, slots=3, workers=1, executing=[], running=0) for lane in Lane]
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    return Board(now=now, lanes=lanes, queue=[], waiting=0, approvals=[view], sessions=[], proofs=[], alerts=[])


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(file=io.StringIO(), force_terminal=True, width=60, height=8)
    monkeypatch.setattr(command, "console", console)
    return console


def written(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def pauses(*doing: Callable[[], object]) -> Callable[[float], None]:
    """Does one thing after the other instead of a pause, then is interrupted."""
    left = list(doing)

    def pause(_seconds: float) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop(0)()

    return pause


def test_interrupt_ends_it_and_gives_the_screen_back(
    screen: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "_read", lambda _settings, _proofs=None: made(HOSTILE))
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    command.show_live(Settings(home=tmp_path), pause=pauses(lambda: None))
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == handlers
    assert written(screen).rstrip().endswith(LEFT) or LEFT in written(screen)[-40:]
    assert "\x1b]0;title" not in written(screen)
    assert "\x1b[31mred" not in written(screen)


def test_signal_that_ends_it_gives_the_screen_back(
    screen: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "_read", lambda _settings, _proofs=None: made())
    with pytest.raises(SystemExit) as ended:
        command.show_live(Settings(home=tmp_path), pause=pauses(lambda: signal.raise_signal(signal.SIGTERM)))
    assert ended.value.code == 128 + signal.SIGTERM
    assert LEFT in written(screen)


def test_outage_is_said_and_waited_out_and_the_size_may_change(
    screen: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    away = [False]

    def read(_settings: Settings, _proofs: object = None) -> Board:
        if away[0]:
            raise RoomUnreachableError("the ops database does not answer")
        return made()

    def take_away() -> None:
        away[0] = True

    def bring_back() -> None:
        away[0] = False
        assert "As of " in written(screen)
        assert "the ops database does not" in written(screen)
        screen.width, screen.height = 40, 5

    monkeypatch.setattr(command, "_read", read)
    drawn: list[int] = []
    command.show_live(
        Settings(home=tmp_path),
        pause=pauses(take_away, bring_back, lambda: drawn.append(len(written(screen)))),
    )
    assert "As of " not in written(screen)[drawn[0] :]


def test_last_proofs_are_read_once_a_minute(screen: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[bool] = []

    def read(_settings: Settings, proofs: list[LastProof] | None = None) -> Board:
        asked.append(proofs is None)
        board = made()
        return replace(board, now=board.now + timedelta(seconds=25 * (len(asked) - 1)), proofs=proofs or [])

    monkeypatch.setattr(command, "_read", read)
    command.show_live(Settings(home=tmp_path), pause=pauses(*[lambda: None] * 7))
    # at 0 s, and when those shown are 60 s old: at 100 s, and at 200 s
    assert asked == [True, False, False, False, True, False, False, False]


def test_database_that_never_answered_is_an_error(
    screen: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def read(_settings: Settings, _proofs: object = None) -> Board:
        raise RoomUnreachableError

    monkeypatch.setattr(command, "_read", read)
    with pytest.raises(RoomUnreachableError):
        command.show_live(Settings(home=tmp_path))
    assert written(screen) == ""
