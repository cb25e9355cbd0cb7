"""How runs look: as tables for people, as documents for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from cli.columns import Columns
from cli.run.progress import progress_document, progress_lines
from cli.text import STATUS_STYLE, clock, lines, moment, result_rows, safe_line, value_text
from opsdb.amounts import seconds, size
from opsdb.runs.lookup import RunDetails, RunView, short_id
from opsdb.states import RunStatus
from opsdb.tables import Artifact, Run, RunEvent, RunStep

EVENTS_SHOWN = 50


def status_text(status: str) -> Text:
    """A status in its colour."""
    return Text(status, style=STATUS_STYLE.get(status, ""))


def called(run: Run, *, width: int = 80) -> str:
    """What people call a run: its name, or its kind while it has none, safe to show on one line."""
    return safe_line(run.name or run.kind, width=width)


def error_lines(error: dict[str, Any] | None) -> list[str]:
    """What went wrong, in at most two lines."""
    if not error:
        return []
    lines = [line for line in str(error.get("message") or "").splitlines() if line.strip()]
    head = f"{error.get('type') or 'Error'}: {lines[0] if lines else 'no message'}"
    return [safe_line(line, width=300) for line in [head, *lines[1:2]]]


def runs_table(views: Sequence[RunView], *, why: bool = False) -> Columns:
    """One line per run. Times are UTC. Its status is `asks` while it waits for an approval, `waits` while it is
    postponed. With `why`, each says why it failed, was cancelled, or waits.

    Columns that say nothing are left out: priorities when all are 0, attempts when all are the first. Where there is no
    room, so are the workers, then the kinds, which names mostly say, and then from where the runs were started.
    """
    priorities = any(view.run.priority for view in views)
    attempts = any(view.run.attempt > 1 for view in views)
    table = Columns.of(
        *("run", "name", "lane", ">prio", "status", ">try", "started", ">duration"),
        *("started from?", "kind?", "worker?", "why"),
    )
    for view in views:
        run = view.run
        table.add(
            short_id(run.id),
            called(run, width=200),
            run.lane.value,
            str(run.priority) if priorities else "",
            _status(view),
            str(run.attempt) if attempts else "",
            moment(run.started_at, view.now),
            seconds(view.duration_seconds),
            safe_line(view.origin, width=40),
            safe_line(run.kind, width=40),
            safe_line(run.claimed_by or ""),
            run_reason(view) if why else "",
        )
    return table


def run_reason(view: RunView) -> str:
    """Why a run failed, was cancelled or waits, on one line; empty where nothing is to be explained."""
    if view.run.status is RunStatus.FAILED:
        return next(iter(error_lines(view.run.error)), "")
    waits = view.waits_for_approval or view.postponed
    return safe_line(view.message, width=300) if waits or view.run.status is RunStatus.CANCELLED else ""


def _status(view: RunView) -> Text:
    if view.waits_for_approval:
        return Text("asks", style="yellow")
    if view.postponed:
        return Text("waits", style="dim")
    due_at = view.run.due_at
    later = view.run.status is RunStatus.QUEUED and due_at is not None and due_at > view.now
    return Text("planned", style="dim") if later else status_text(view.run.status)


def run_page(details: RunDetails, *, waits_for: Sequence[str] = (), address: str = "") -> Group:
    """Everything of one run; `waits_for` are the sentences of `waiting_lines`."""
    parts: list[RenderableType] = [_facts(details, address, waits_for)]
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
    states = Columns.of("at", "state", "message")
    for state in details.states:
        states.add(moment(state.at, details.view.now), safe_line(state.name), safe_line(state.message or ""))
    return Group(*parts, *_section("States", states))


def steps_table(steps: Sequence[RunStep], now: datetime) -> Columns:
    """One line per step. Times are UTC."""
    attempts = any(step.attempt > 1 for step in steps)
    table = Columns.of(">try", ">step", "name", "status", "started", ">duration", ">exit", "error")
    for step in steps:
        table.add(
            str(step.attempt) if attempts else "",
            str(step.index),
            safe_line(step.name),
            status_text(step.status),
            moment(step.started_at, now),
            seconds(step_seconds(step, now)),
            "" if step.exit_code is None else str(step.exit_code),
            safe_line(step.error or ""),
        )
    return table


def live_steps_table(steps: Iterable[RunStep], now: datetime) -> Columns:
    """One short line per step, for a table that is drawn again each second."""
    table = Columns.of(">step", "name", "status", ">duration", ">exit")
    for step in steps:
        table.add(
            str(step.index),
            safe_line(step.name, width=40),
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
        "started_from": view.origin,
        "why": run_reason(view),
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


def _facts(details: RunDetails, address: str, waits_for: Sequence[str]) -> Text:
    view, run = details.view, details.view.run
    rows = [
        ("run", str(run.id)),
        ("name", safe_line(run.name or "")),
        ("kind", safe_line(run.kind)),
        ("status", run.status.value),
    ]
    rows += [("", line) for line in error_lines(run.error)]
    rows += [("waits" if number == 0 else "", line) for number, line in enumerate(waits_for)]
    rows += [
        ("lane", run.lane.value),
        ("priority", str(run.priority)),
        ("session", safe_line(view.session)),
        ("started from", safe_line(view.origin)),
        ("attempt", str(run.attempt)),
        ("worker", safe_line(run.claimed_by or "")),
        ("created", clock(run.created_at)),
        ("started", clock(run.started_at)),
        ("finished", clock(run.finished_at)),
        ("waited", seconds(view.queue_seconds)),
        ("duration", seconds(view.duration_seconds)),
        ("page", address),
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


def _events(events: Iterable[RunEvent], now: datetime) -> Columns:
    styles = {"warning": "yellow", "error": "red"}
    table = Columns.of("at", "level", "event", "data")
    for event in events:
        table.add(
            moment(event.created_at, now),
            Text(event.level, style=styles.get(event.level, "")),
            safe_line(event.message, width=500),
            safe_line(value_text(event.data)) if event.data else "",
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
