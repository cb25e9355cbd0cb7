"""How runs look: as tables for people, as documents for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.run.progress import progress_document, progress_lines
from cli.text import STATUS_STYLE, clock, lines, moment, result_rows, safe_line, value_text
from opsdb.amounts import seconds, size
from opsdb.runs.lookup import RunDetails, RunView, short_id
from opsdb.states import RunStatus
from opsdb.tables import Artifact, RunEvent, RunStep

EVENTS_SHOWN = 50
WRAPPED = ("name", "error", "event", "data", "message")
WIDE = 100  # columns from which a list of runs names the workers


def status_text(status: str) -> Text:
    """A status in its colour."""
    return Text(status, style=STATUS_STYLE.get(status, ""))


def error_lines(error: dict[str, Any] | None) -> list[str]:
    """What went wrong, in at most two lines."""
    if not error:
        return []
    lines = [line for line in str(error.get("message") or "").splitlines() if line.strip()]
    head = f"{error.get('type') or 'Error'}: {lines[0] if lines else 'no message'}"
    return [safe_line(line, width=300) for line in [head, *lines[1:2]]]


def runs_table(views: Sequence[RunView], *, width: int) -> Table:
    """One line per run, for a terminal of so many columns. Times are UTC. One that waits for an approval asks, one
    that waits for a time of its own choice waits.

    Columns that say nothing are left out: priorities when all are 0, attempts when all are the first.
    """
    priorities = any(view.run.priority for view in views)
    attempts = any(view.run.attempt > 1 for view in views)
    workers = width >= WIDE
    columns = [
        "run",
        "name",
        "kind" * workers,
        "lane",
        "prio" * priorities,
        "status",
        "try" * attempts,
        "started",
        "duration",
    ]
    table = _table(*filter(None, [*columns, "worker" * workers]))
    for view in views:
        run = view.run
        table.add_row(
            short_id(run.id),
            Text(safe_line(run.name or run.kind)),
            *([Text(safe_line(run.kind, width=40))] if workers else []),
            run.lane.value,
            *([str(run.priority)] if priorities else []),
            _status(view),
            *([str(run.attempt)] if attempts else []),
            moment(run.started_at, view.now),
            seconds(view.duration_seconds),
            *([Text(safe_line(run.claimed_by or ""))] if workers else []),
        )
    return table


def _status(view: RunView) -> Text:
    if view.waits_for_approval:
        return Text("asks", style="yellow")
    if view.postponed:
        return Text("waits", style="dim")
    due_at = view.run.due_at
    later = view.run.status is RunStatus.QUEUED and due_at is not None and due_at > view.now
    return Text("planned", style="dim") if later else status_text(view.run.status)


def run_page(details: RunDetails, *, waits_for: Sequence[str] = ()) -> Group:
    """Everything of one run; `waits_for` are the sentences of `waiting_lines`."""
    parts: list[RenderableType] = [_facts(details)]
    if waits_for:
        parts += _section("Waits", Text("\n".join(waits_for)))
    if rows := result_rows(details.view.run.result):
        parts += _section("Result", lines(rows))
    if details.steps:
        parts += _section("Steps", steps_table(details.steps, details.view.now))
    if details.events:
        shown = details.events[-EVENTS_SHOWN:]
        left_out = len(details.events) - len(shown)
        title = f"Events (the last {len(shown)} of {len(details.events)}; all with --json)" if left_out else "Events"
        parts += _section(title, _events(shown, details.view.now))
    if details.artifacts:
        parts += _section("Artifacts", _artifacts(details.artifacts))
    states = _table("at", "state", "message")
    for state in details.states:
        message = safe_line(state.message or "")
        states.add_row(moment(state.at, details.view.now), Text(safe_line(state.name)), Text(message))
    return Group(*parts, *_section("States", states))


def steps_table(steps: Sequence[RunStep], now: datetime) -> Table:
    """One line per step. Times are UTC."""
    attempts = any(step.attempt > 1 for step in steps)
    wrong = any(step.error for step in steps)
    columns = ["try" * attempts, "step", "name", "status", "started", "duration", "exit", "error" * wrong]
    table = _table(*filter(None, columns))
    for step in steps:
        table.add_row(
            *([str(step.attempt)] if attempts else []),
            str(step.index),
            Text(safe_line(step.name)),
            status_text(step.status),
            moment(step.started_at, now),
            seconds(step_seconds(step, now)),
            "" if step.exit_code is None else str(step.exit_code),
            *([Text(safe_line(step.error or ""))] if wrong else []),
        )
    return table


def live_steps_table(steps: Iterable[RunStep], now: datetime) -> Table:
    """One short line per step, for a table that is drawn anew each second."""
    table = _table("step", "name", "status", "duration", "exit")
    for step in steps:
        table.add_row(
            str(step.index),
            Text(safe_line(step.name, width=40)),
            status_text(step.status),
            seconds(step_seconds(step, now)),
            "" if step.exit_code is None else str(step.exit_code),
        )
    return table


def step_seconds(step: RunStep, now: datetime) -> float | None:
    """How long a step took, or has taken so far."""
    if step.started_at is None:
        return None
    return max(0.0, ((step.finished_at or now) - step.started_at).total_seconds())


def run_document(view: RunView) -> dict[str, Any]:
    """A run for programs: its columns, and what follows from them."""
    return {
        **view.run.model_dump(exclude={"state_id", "state_at"}),
        "short_id": short_id(view.run.id),
        "session": view.session,
        "waits_for_approval": view.waits_for_approval,
        "postponed": view.postponed,
        "queue_seconds": view.queue_seconds,
        "duration_seconds": view.duration_seconds,
    }


def details_document(details: RunDetails) -> dict[str, Any]:
    """Everything of one run, for programs."""
    return {
        **run_document(details.view),
        "steps": [_plain(step, "progress") | {"progress": progress_document(step)} for step in details.steps],
        "events": [_plain(event) for event in details.events],
        "artifacts": [{**_plain(artifact, "details"), "metadata": artifact.details} for artifact in details.artifacts],
        "states": [_plain(state) for state in details.states],
    }


def _plain(record: Any, *without: str) -> dict[str, Any]:
    document: dict[str, Any] = record.model_dump(exclude={"run_id", *without})
    return document


def _facts(details: RunDetails) -> Text:
    view, run = details.view, details.view.run
    rows = [
        ("run", str(run.id)),
        ("name", safe_line(run.name or "")),
        ("kind", safe_line(run.kind)),
        ("status", run.status.value),
    ]
    rows += [("", line) for line in error_lines(run.error)]
    rows += [
        ("lane, priority", f"{run.lane.value}, {run.priority}"),
        ("session", safe_line(view.session)),
        ("attempt", str(run.attempt)),
        ("worker", safe_line(run.claimed_by or "")),
        ("created", clock(run.created_at)),
        ("started", clock(run.started_at)),
        ("finished", clock(run.finished_at)),
        ("waited", seconds(view.queue_seconds)),
        ("duration", seconds(view.duration_seconds)),
    ]
    if not run.status.terminal:
        if run.heartbeat_at:
            ago = max(0.0, (view.now - run.heartbeat_at).total_seconds())
            rows.append(("last heartbeat", f"{seconds(ago)} ago"))
        rows += [("progress", line) for line in progress_lines(details.steps)]
        rows.append(("deadline", clock(run.deadline_at)))
    rows += [(f"-p {safe_line(name, width=40)}", value_text(value)) for name, value in run.params.items()]
    facts = lines([row for row in rows if row[1]])
    facts.highlight_words([run.status.value], style=STATUS_STYLE.get(run.status, ""))
    return facts


def _events(events: Iterable[RunEvent], now: datetime) -> Table:
    styles = {"warning": "yellow", "error": "red"}
    table = _table("at", "level", "event", "data")
    for event in events:
        table.add_row(
            moment(event.created_at, now),
            Text(event.level, style=styles.get(event.level, "")),
            Text(safe_line(event.message, width=500)),
            Text(safe_line(value_text(event.data)) if event.data else ""),
        )
    return table


def _artifacts(artifacts: Iterable[Artifact]) -> Text:
    """A line each: its size, and where it is or what it says."""
    rows = []
    for artifact in artifacts:
        text = artifact.content_text or ""
        length = artifact.size_bytes if artifact.size_bytes is not None else len(text.encode()) if text else None
        where = value_text(artifact.storage_path or artifact.content_url or text)
        name = safe_line(artifact.name)
        rows.append(("" if length is None else size(length), where if where.endswith(name) else f"{name}: {where}"))
    return lines(rows)


def _section(title: str, table: RenderableType) -> list[RenderableType]:
    return [Text(f"\n{title}", style="bold"), table]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        right = column in ("prio", "try", "step", "duration", "exit", "size")
        table.add_column(column, justify="right" if right else "left", no_wrap=column not in WRAPPED, overflow="fold")
    return table
