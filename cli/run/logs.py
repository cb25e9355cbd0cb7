"""`ops logs`: the output of the steps, from the files that the run processes write."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from cli.run.deaths import Deaths
from cli.run.progress import ProgressLine, progress_lines
from cli.run.safe_writer import writer
from cli.run.step_logs import StepLog, Tail, chunks, open_log, step_logs
from cli.text import console, errors, print_json, safe_line, say
from opsdb.errors import UsageError
from opsdb.near_names import did_you_mean
from opsdb.runs.lookup import RunDetails, find_run, read_run, reading, short_id
from opsdb.settings import Settings
from opsdb.standard_streams import reader_left
from opsdb.tables import RunStep

POLL_SECONDS = 0.5
RECORD_SECONDS = 10.0
JSON_TEXT_BYTES = 1024 * 1024


def show_logs(
    settings: Settings, *, run: str, step: str | None, attempt: int | None, follow: bool, as_json: bool
) -> None:
    """Print the output of a run's steps as `ops logs` does. Raises UsageError for a missing step."""
    if follow and as_json:
        raise UsageError("--follow and --json exclude each other")
    details = _find(settings, run, patience_seconds=RECORD_SECONDS if follow else 0)
    run_id = details.view.run.id
    if attempt is not None and attempt > details.view.run.attempt and not follow:
        made = details.view.run.attempt
        raise UsageError(f"--attempt: run {short_id(run_id)} has no attempt {attempt}, its latest is {made}")
    write = writer(raw=step is not None)
    if follow:
        _follow(settings, details, step=step, attempt=attempt, write=write)
        return
    logs = step_logs(settings, details, attempt=attempt or details.view.run.attempt)
    chosen = logs if step is None else [choose(logs, step)]
    if as_json:
        print_json({"id": run_id, "steps": [_document(log) for log in chosen]})
        return
    if not logs:
        errors.print(_nothing(details, attempt), markup=False, soft_wrap=True)
    for log in chosen:
        if step is None:
            _header(log)
        if log.trouble is not None:
            _trouble(log, raw=step is not None)
            continue
        with open_log(log) as file:
            for chunk in chunks(file):
                write(chunk)
        write(b"")


def _find(settings: Settings, run: str, *, patience_seconds: float) -> RunDetails:
    """The run, as soon as it is recorded: one that was just started is not yet."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            with reading(settings) as db:
                run_id = find_run(db, run)
                return _details(read_run(db, run_id), run_id)
        except UsageError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL_SECONDS)


def choose(logs: list[StepLog], wanted: str) -> StepLog:
    """The step of that name or number. Raises UsageError that lists the steps."""
    if not logs:
        raise UsageError("--step: the run has no steps yet")
    fits = [log for log in logs if wanted == log.step.name] or [log for log in logs if _is_number(log, wanted)]
    listed = ", ".join(f"{log.step.index} {safe_line(log.step.name)}" for log in logs)
    if not fits:
        meant = did_you_mean(wanted, [log.step.name for log in logs])
        raise UsageError(f"--step: no step {wanted!r}.{meant} There are: {listed}")
    if len(fits) > 1:
        raise UsageError(f"--step: {wanted!r} names {len(fits)} steps, give the number instead: {listed}")
    return fits[0]


def _follow(
    settings: Settings, details: RunDetails, *, step: str | None, attempt: int | None, write: Callable[[bytes], None]
) -> None:
    """Print what the steps write until the run, or the chosen attempt, is over."""
    run_id = details.view.run.id
    current, shown = attempt or details.view.run.attempt, (0, -1)
    tails: dict[tuple[int, int], Tail] = {}
    progress, at_line_start = ProgressLine(errors), True
    deaths = Deaths(settings=settings, run_id=run_id)
    if not details.steps:
        errors.print(f"run {short_id(run_id)} {details.view.run.status.told}: waiting for its first step", markup=False)
    while not reader_left():  # `ops logs RUN --follow | grep -m1 word`
        run = details.view.run
        logs = step_logs(settings, details, attempt=current)
        spared = attempt is None and any(deaths.spare(state) for state in details.states if state.id == run.state_id)
        over = not spared and (
            run.status.terminal or run.attempt > current or any(_is(log, step) and log.step.finished_at for log in logs)
        )
        for log in logs:
            if step is not None and not _is(log, step):
                continue
            key = (current, log.step.index)
            tail = tails.setdefault(key, Tail(log))
            for chunk in tail.new():
                progress.clear()
                if step is None and shown != key:
                    _header(log)
                shown = key
                write(chunk)
                at_line_start = chunk.endswith(b"\n")
            if log.step.finished_at is not None and not tail.told:
                tail.told = True
                progress.clear()
                if step is None and shown != key:
                    _header(log)
                shown = key
                if log.trouble is not None:
                    _trouble(log, raw=step is not None)
        if over:
            if run.attempt > current and attempt is None:
                current = run.attempt
                continue
            break
        chosen = [log.step for log in logs if at_line_start and (step is None or _is(log, step))]
        progress.show(progress_lines(chosen), at=time.monotonic())
        time.sleep(POLL_SECONDS)
        with reading(settings) as db:
            details = _details(read_run(db, run_id), run_id)
    progress.clear()
    write(b"")
    if step is not None:
        choose(step_logs(settings, details, attempt=current), step)
    errors.print(f"run {short_id(run_id)} {details.view.run.status.told}", markup=False)


def _header(log: StepLog) -> None:
    code = "" if log.step.exit_code is None else f", exit code {log.step.exit_code}"
    line = f"== {log.step.index} {safe_line(log.step.name)}: {log.step.status}{code} =="
    say(line, style="bold")


def _trouble(log: StepLog, *, raw: bool) -> None:
    say(f"({log.trouble})", style="dim", to=errors if raw else console)


def _is(log: StepLog, wanted: str | None) -> bool:
    return wanted == log.step.name or _is_number(log, wanted)


def _is_number(log: StepLog, wanted: str | None) -> bool:
    return wanted is not None and (wanted.lstrip("0") == str(log.step.index) or wanted == _numbered(log.step))


def _numbered(step: RunStep) -> str:
    return f"{step.index:02d}-{step.name}"


def _nothing(details: RunDetails, attempt: int | None) -> str:
    run, shown = details.view.run, attempt or details.view.run.attempt
    earlier = [step.attempt for step in details.steps if step.attempt < shown]
    which = f"attempt {shown} of run" if earlier or shown < run.attempt else "run"
    yet = "" if run.status.terminal or shown < run.attempt else " yet"
    found = f"{which} {short_id(run.id)}, which {run.status.told}, has no steps{yet}"
    return f"{found}; that before it has: --attempt {max(earlier)}" if earlier else found


def _details(details: RunDetails | None, run_id: UUID) -> RunDetails:
    if details is None:
        raise UsageError(f"run {run_id} was deleted from the ops database")
    return details


def _document(log: StepLog) -> dict[str, Any]:
    document: dict[str, Any] = log.step.model_dump(include={"attempt", "index", "name", "status", "exit_code"})
    document |= {"path": str(log.path) if log.path else None, "trouble": log.trouble, "size_bytes": None, "text": None}
    if log.path is not None and log.trouble is None:
        with open_log(log) as file:
            document["size_bytes"] = log.path.stat().st_size
            file.seek(max(0, document["size_bytes"] - JSON_TEXT_BYTES))  # the end of a long one
            document["text"] = file.read(JSON_TEXT_BYTES).decode(errors="replace")
    return document
