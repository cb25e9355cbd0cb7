"""How far a step is, on a page, in a line that is rewritten, and in lines now and then."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from cli.run import logs as run_logs
from cli.run.logs import show_logs
from cli.run.progress import ProgressLine, progress_lines
from cli.run.step_logs import log_path
from cli.run.view import details_document, run_page
from cli.run.wait import Lines, LiveTable, Moment
from opsdb.progress import Progress
from opsdb.runs.lookup import RunDetails
from opsdb.settings import Settings
from opsdb.states import RunStatus
from opsdb.tables import StepStatus
from tests.support.runs_made_up import HOSTILE, details, drawn, state

HALF = Progress(done_bytes=5_000_000, total_bytes=10_000_000, estimated=True, bytes_per_second=500_000)
SAID = "5.0 MB  50 % of about 10.0 MB  500.0 kB/s  10 s left"


def running(name: str = "pg_dump", *, progress: Progress | None = HALF) -> RunDetails:
    """A run whose second step runs."""
    found = details(status=RunStatus.RUNNING, text=name)
    step = found.steps[1]
    step.status, step.finished_at, step.exit_code = StepStatus.RUNNING, None, None
    step.progress = progress.columns if progress else None
    return found


def moment(found: RunDetails, kind: str = "RUNNING", *, waited: float = 1) -> Moment:
    return Moment(run_id=found.view.run.id, state=state(kind), details=found, waited_seconds=waited)


def test_page_and_document_have_the_progress_of_the_running_step() -> None:
    assert f"progress        pg_dump  {SAID}\n" in drawn(run_page(running()))
    steps = details_document(running())["steps"]
    assert [step["progress"] for step in steps] == [None, {**HALF.columns, "percent": 50, "seconds_left": 10.0}]
    assert "progress" not in drawn(run_page(running(progress=None)))


def test_name_of_a_step_cannot_forge_a_line() -> None:
    [line] = progress_lines(running(f"a\nb {HOSTILE}").steps)
    assert line.isprintable()


def test_wait_without_a_terminal_says_it_every_ten_seconds() -> None:
    out = io.StringIO()
    view = Lines(Console(file=out, width=20))
    for waited in (1, 2, 5, 10, 11, 12, 20, 22):
        view.show(moment(running(), waited=waited))
    assert out.getvalue().count(f"pg_dump  {SAID}\n") == 3
    view.show(moment(running(), "COMPLETED", waited=40))  # its record comes after Prefect's word
    assert out.getvalue().count("left\n") == 3


def test_wait_at_a_terminal_draws_it_below_the_steps() -> None:
    out = io.StringIO()
    with LiveTable(Console(file=out, width=80, force_terminal=True)) as view:
        view.show(moment(running()))
    assert f"pg_dump  {SAID}" in out.getvalue()


def test_line_at_a_terminal_is_written_over_and_taken_away() -> None:
    out = io.StringIO()
    line = ProgressLine(Console(file=out, width=30, force_terminal=True))
    line.show([], at=0)
    line.clear()
    assert out.getvalue() == ""
    line.show(["x" * 50], at=0)
    shown = out.getvalue()
    assert "x" * 28 + "…" in shown
    line.show(["x" * 50], at=1)
    assert out.getvalue() == shown  # nothing new
    line.show(["y"], at=1)
    line.show([], at=2)
    assert out.getvalue().count("\r\x1b[2K") == 2
    assert "\n" not in out.getvalue()


def test_follow_shows_a_silent_step_and_keeps_its_output_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    going, over = running(), details(text="pg_dump")
    over.view.run.id = going.view.run.id
    path = log_path(Settings(home=tmp_path), going.view.run.id, attempt=1, index=2, name="pg_dump")
    path.parent.mkdir(parents=True)
    path.write_text("begun\n")
    seen = iter([going] * 30 + [over])
    now = 0.0

    def pause(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(run_logs, "_find", lambda *_args, **_options: going)
    monkeypatch.setattr(run_logs, "reading", lambda _settings: io.StringIO())  # a context, and nothing is read
    monkeypatch.setattr(run_logs, "read_run", lambda _db, _id: next(seen))
    monkeypatch.setattr("cli.run.logs.time.sleep", pause)
    monkeypatch.setattr("cli.run.logs.time.monotonic", lambda: now)
    show_logs(Settings(home=tmp_path), run="x", step="pg_dump", attempt=None, follow=True, as_json=False)
    said = capsys.readouterr()
    assert said.out == "begun\n"
    assert said.err.count(f"pg_dump  {SAID}\n") == 2  # in 15 s
