"""What run processes and workers learn of their attempts, on a real PostgreSQL."""

from __future__ import annotations

from sqlalchemy import text

from opsdb.progress import Progress
from opsdb.record.entries import StepFinished, StepStarted
from opsdb.runs.attempts import AttemptStatus, read_ending, write_heartbeat
from opsdb.runs.lookup import SILENT_SECONDS, read_run
from opsdb.runs.sweeper import fence_run
from opsdb.tables import StepStatus
from tests.integration.sweeper_case import Case


def test_retry_whose_history_is_not_here_yet_is_ours(case: Case) -> None:
    case.states("PENDING", "RUNNING", "CRASHED")
    assert case.beat(2) is AttemptStatus.UNKNOWN
    assert case.beat(1) is AttemptStatus.TAKEN


def test_heartbeat_is_written_only_when_it_is_due(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.age(20)
    before = case.row().heartbeat_at
    assert case.status() is AttemptStatus.OURS
    assert case.row().heartbeat_at == before
    assert case.beat() is AttemptStatus.OURS
    assert case.row().heartbeat_at > before
    case.states("CANCELLING")
    assert case.beat() is AttemptStatus.CANCELLING


def test_worker_learns_what_is_recorded_of_an_attempt(case: Case) -> None:
    case.states("PENDING", "RUNNING")

    def ending(attempt: int = 1) -> tuple[bool, str | None]:
        with case.engine.connect() as db:
            found = read_ending(db, run_id=case.id, attempt=attempt)
        return found.taken, found.outcome

    assert ending() == (False, None)
    assert ending(2) == (False, None)
    case.close(result=1)
    assert ending() == (False, "succeeded")
    with case.engine.begin() as db:
        assert not fence_run(db, run_id=case.id, reason="DeadlineExceeded")
    assert ending() == (False, "succeeded")
    case.states("CRASHED", "SCHEDULED", "PENDING")
    assert ending() == (True, None)
    assert ending(2) == (False, None)
    with case.engine.begin() as db:
        assert fence_run(db, run_id=case.id, reason="ClaimTimeout")
    assert ending(2) == (True, None)


HALF = Progress(done_bytes=50, total_bytes=100, bytes_per_second=2.5)


def begun(case: Case, index: int = 1) -> None:
    """A step of the run has started."""
    with case.engine.begin() as db:
        StepStarted(case.id, attempt=1, index=index, name="pg_dump", command="x", timeout_seconds=9).apply(db)


def beat(case: Case, progress: dict[int, Progress | None]) -> AttemptStatus:
    with case.engine.begin() as db:
        return write_heartbeat(db, run_id=case.id, attempt=1, progress=progress)


def shown(case: Case) -> list[Progress | None]:
    """How far the steps are, as operators are shown it."""
    with case.engine.connect() as db:
        found = read_run(db, case.id)
    assert found is not None
    return [Progress.of(step.progress) if step.progress else None for step in found.steps]


def test_progress_stands_with_the_running_step_and_ends_with_it(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    begun(case)
    begun(case, 2)
    assert beat(case, {1: HALF}) is AttemptStatus.OURS
    assert shown(case) == [HALF, None]
    assert beat(case, {1: None}) is AttemptStatus.OURS  # the disk hangs
    assert shown(case) == [None, None]
    beat(case, {1: HALF, 2: HALF})
    with case.engine.begin() as db:
        StepFinished(case.id, attempt=1, index=1, status=StepStatus.SUCCEEDED).apply(db)
    beat(case, {1: HALF})  # looked at just before its end
    assert shown(case) == [None, HALF]
    case.states("COMPLETED")
    assert shown(case) == [None, None]


def test_progress_of_a_process_that_is_silent_is_not_shown(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    begun(case)
    beat(case, {1: HALF})
    case.age(SILENT_SECONDS - 2)
    assert shown(case) == [HALF]
    case.age(SILENT_SECONDS + 1)
    assert shown(case) == [None]


def test_progress_of_a_run_that_was_taken_is_not_written(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    begun(case)
    with case.engine.begin() as db:
        assert fence_run(db, run_id=case.id, reason="DeadlineExceeded")
    assert beat(case, {1: HALF}) is AttemptStatus.TAKEN
    with case.engine.connect() as db:
        assert db.scalar(text("SELECT count(*) FROM ops.run_steps WHERE progress IS NOT NULL")) == 0
