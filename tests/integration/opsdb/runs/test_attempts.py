"""What run processes and workers learn of their attempts, on a real PostgreSQL."""

from __future__ import annotations

from opsdb.runs.attempts import AttemptStatus, read_ending
from opsdb.runs.sweeper import fence_run
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
