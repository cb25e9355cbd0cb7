"""The board as lines: lanes, queue, approvals, sessions, verified backups and alerts, for a screen of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.text import Text

from cli.columns import Columns
from cli.run.reasons import waiting_lines
from cli.run.view import called, status_text
from cli.text import alert_subject, clock, moment, safe_line
from opsdb.amounts import seconds, size
from opsdb.runs.board import Board, Executing, LaneBoard, Queued
from opsdb.runs.lookup import RunView, short_id
from opsdb.tables import Lane

DAY = 86400.0


@dataclass
class Section:
    """A part of the board: its title, and its lines, which fewer may be shown of."""

    title: Text
    lines: list[Text]
    shown: int

    def drawn(self) -> list[Text]:
        """The lines that are shown, with how many are not."""
        if self.shown >= len(self.lines):
            return [self.title, *self.lines]
        kept = max(0, self.shown - 1)
        return [self.title, *self.lines[:kept], Text(f"  ... {len(self.lines) - kept} more lines", style="dim")]


def board_lines(board: Board, *, width: int, height: int | None, note: str = "") -> list[Text]:
    """The board in lines of `width` columns, at most `height` of them; with None, as many as it takes.

    Where there is no room, the longest parts are shortened first. `note` is what keeps it from being up to date.
    """
    running = sum(lane.running for lane in board.lanes)
    head = Text(f"{clock(board.now)}  {running} running, {board.waiting} waiting", style="bold")
    top = [head, *([Text(note, style="bold red")] if note else [])]
    sections = [section for section in _sections(board, width) if section.lines]
    if height is not None:
        _shorten(sections, height - len(top))
    lines = [*top, *(line for section in sections for line in section.drawn())]
    if height is not None:
        lines = lines[:height]
    for line in lines:
        line.no_wrap, line.overflow = True, "ignore" if height is None else "ellipsis"
    return lines


def board_document(board: Board, *, slots: int) -> dict[str, Any]:
    """The board for programs."""
    from cli.run.view import run_document

    return {
        "now": board.now,
        "lanes": [
            {
                "lane": lane.lane,
                "slots": lane.slots,
                "workers": lane.workers,
                "running": [
                    {
                        **run_document(one.view),
                        "step": one.step,
                        "progress": None if one.progress is None else one.progress.columns,
                    }
                    for one in lane.executing
                ],
            }
            for lane in board.lanes
        ],
        "queue": [{**run_document(one.view), "waits_for": _why(one, board, slots)} for one in board.queue],
        "approvals": [run_document(view) for view in board.approvals],
        "sessions": [vars(one) for one in board.sessions],
        "proofs": [vars(one) for one in board.proofs],
        "alerts": board.alerts,
    }


def _sections(board: Board, width: int) -> list[Section]:
    parts = [
        ("Alerts", _alerts(board)),
        ("Waiting for approval", _approvals(board.approvals, board.now)),
        ("Lanes", _lanes(board.lanes)),
        ("Queue", _queue(board)),
        ("Sessions", _sessions(board)),
        ("Verified backups", _proofs(board)),
    ]
    sections = []
    for title, table in parts:
        lines = list(table.lines(width)) if table.rows else []
        style = "bold red" if title == "Alerts" else "bold yellow" if title == "Waiting for approval" else "bold"
        sections.append(Section(Text(title, style=style), lines, len(lines)))
    return sections


def _shorten(sections: Sequence[Section], height: int) -> None:
    """Show fewer lines, of the longest part first, until all titles and lines fit."""
    while sum(1 + section.shown for section in sections) > height:
        longest = max(sections, key=lambda section: section.shown)
        if longest.shown <= 1:
            return
        longest.shown -= 1


def _lanes(lanes: Sequence[LaneBoard]) -> Columns:
    table = Columns.of("lane", "runs", "run", "what", "step", "how far", "for", header=False)
    for lane in lanes:
        slots = "" if lane.slots is None else f" of {lane.slots}"
        count = f"{lane.running}{slots}"
        if not lane.executing:
            state = Text("no worker", style="bold red") if not lane.workers else Text("idle", style="dim")
            paused = Text("paused, or its limit is 0", style="yellow") if lane.slots == 0 else state
            table.add(lane.lane.value, count, paused, "", "", "", "")
        for number, one in enumerate(lane.executing):
            first = (lane.lane.value, count) if number == 0 else ("", "")
            table.add(*first, *_executing(one))
    return table


def _executing(one: Executing) -> tuple[Text | str, ...]:
    view, run = one.view, one.view.run
    if run.started_at is None or view.silent:
        state = "no heartbeat" if run.started_at else run.status.value
        step = status_text(run.status.value) if run.started_at is None else Text(state, style="bold red")
    else:
        step = Text(safe_line(one.step or "", width=24))
    progress = "" if one.progress is None else _short(str(one.progress))
    return short_id(run.id), called(run, width=40), step, progress, seconds(view.duration_seconds)


def _short(progress: str) -> str:
    """Percent and time left where both are known, else the bytes."""
    parts = progress.split("  ")
    percent = next((part.partition(" %")[0] + " %" for part in parts if " %" in part), "")
    left = next((part for part in parts if part.endswith(" left")), "")
    return "  ".join(filter(None, [percent or parts[0], left]))


def _queue(board: Board) -> Columns:
    table = Columns.of("run", "what", "lane", ">prio?", "for", "why", header=False)
    for one in board.queue:
        view, run = one.view, one.view.run
        why = "; ".join(_why(one, board, slots=0)[:2])
        since = seconds(view.queue_seconds) if view.queue_seconds is not None else f"attempt {run.attempt}"
        prio = f"priority {run.priority}" if run.priority else ""
        table.add(short_id(run.id), called(run, width=40), run.lane.value, prio, since, why)
    return table


def _why(one: Queued, board: Board, slots: int) -> list[str]:
    """Why a run waits, as far as `ops` knows; nothing for those far behind."""
    if one.waiting is None:
        return []
    limits: dict[Lane, int | None] = {lane.lane: lane.slots for lane in board.lanes}
    limit = limits[one.view.run.lane]
    if limit == 0:
        return [f"lane {one.view.run.lane} is paused, or its limit is 0"]
    return waiting_lines(one.view, one.waiting, hold=None, slots=limit or slots)


def _approvals(views: Sequence[RunView], now: datetime) -> Columns:
    table = Columns.of("run", "what", "since", "asks", header=False)
    for view in views:
        run = view.run
        asks = f"{safe_line(view.message, width=200)} `ops approve {short_id(run.id)}`"
        table.add(short_id(run.id), called(run, width=40), moment(run.state_at, now), asks)
    return table


def _sessions(board: Board) -> Columns:
    table = Columns.of("session", "runs", header=False)
    for one in board.sessions:
        counts = {"unfinished": one.unfinished, "succeeded": one.succeeded, "failed": one.failed}
        counts["cancelled"] = one.cancelled
        said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        table.add(safe_line(one.name, width=50), f"{one.runs} run{'s' * (one.runs != 1)}: {said}")
    return table


def _proofs(board: Board) -> Columns:
    table = Columns.of("database", "backup", "drill", header=False)
    for one in board.proofs:
        age = (board.now - one.backup_at).total_seconds()
        made = "" if one.size_bytes is None else f", dump {size(one.size_bytes)}"
        drill = "never" if one.drill_at is None else f"{_age((board.now - one.drill_at).total_seconds())} ago"
        style = "yellow" if age > 1.5 * DAY else ""
        table.add(
            safe_line(one.database, width=40),
            Text(f"backup {_age(age)} ago{made}", style=style),
            Text(f"restored {drill}", style="dim" if one.drill_at else "yellow"),
        )
    return table


def _alerts(board: Board) -> Columns:
    table = Columns.of("rule", "lane", "since", "subjects", header=False)
    for one in board.alerts:
        named = ", ".join(map(alert_subject, one["subjects"] or ()))
        silenced = " (silenced)" if one["silenced_until"] else ""
        table.add(
            f"{one['rule']}{silenced}",
            one["lane"] or "",
            moment(one["opened_at"], board.now),
            safe_line(named, width=200),
            style="red",
        )
    return table


def _age(age_seconds: float) -> str:
    days = int(age_seconds // DAY)
    return f"{days} d {int(age_seconds % DAY // 3600)} h" if days else seconds(age_seconds)
