"""What is counted of runs, against a real PostgreSQL: by triggers into deltas, and folded into totals."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from opsdb.progress import Progress
from opsdb.runs.attempts import AttemptStatus, write_heartbeat
from opsdb.runs.runs import RunFacts, apply_states
from opsdb.runs.sweeper import fence_run, note_reaped, sweep
from opsdb.runs.totals import fold_deltas
from opsdb.settings import Settings
from opsdb.states import State, postponed_message
from opsdb.tables import Lane
from tests.support.waiting import wait_for

START = datetime(2026, 1, 1, tzinfo=UTC)
Counted = dict[tuple[str, str], float]


def facts() -> RunFacts:
    return RunFacts(id=uuid4(), kind="deploy", lane=Lane.B, priority=0, session_id=None, params={}, created_at=START)


def life(*moments: tuple[str, float]) -> list[State]:
    """States by type and seconds after START."""
    return [State(id=uuid4(), at=START + timedelta(seconds=at), type=type_, name=type_) for type_, at in moments]


def report(engine: Engine, run: RunFacts, *states: State) -> None:
    with engine.begin() as db:
        apply_states(db, facts=run, states=states)


def counts(engine: Engine) -> Counted:
    """What was counted by name and label, deltas and totals together."""
    with engine.connect() as db:
        rows = db.execute(
            text(
                "SELECT name, label, sum(count) FROM (SELECT name, label, count FROM ops.metric_totals "
                "UNION ALL SELECT name, label, count FROM ops.metric_deltas) GROUP BY name, label"
            )
        )
        return {(name, label): int(count) for name, label, count in rows}


WHOLE = (("SCHEDULED", 0), ("PENDING", 3), ("RUNNING", 4), ("COMPLETED", 24))
OF_WHOLE = {("created", ""): 1, ("queue_wait", "5"): 1, ("finished", "succeeded"): 1, ("duration", "30"): 1}


def test_a_run_counts_the_same_whether_its_states_come_one_by_one_or_all_at_once(engine: Engine) -> None:
    one_by_one, at_once, backwards = facts(), facts(), facts()
    for state in life(*WHOLE):
        report(engine, one_by_one, state)
    assert counts(engine) == OF_WHOLE
    report(engine, at_once, *life(*WHOLE))
    assert counts(engine) == dict.fromkeys(OF_WHOLE, 2)
    for state in reversed(life(*WHOLE)):
        report(engine, backwards, state)
    seen = counts(engine)
    assert seen["created", ""] == seen["finished", "succeeded"] == seen["queue_wait", "5"] == 3


def test_repeats_count_nothing(engine: Engine) -> None:
    run, states = facts(), life(*WHOLE)
    for _ in range(3):
        report(engine, run, *states)
    assert counts(engine) == OF_WHOLE


@pytest.mark.parametrize("at_once", [True, False], ids=["seen at once", "seen one by one"])
def test_a_retry_is_a_finish_of_its_own(engine: Engine, at_once: bool) -> None:
    run = facts()
    report(engine, run, *life(("SCHEDULED", 0), ("RUNNING", 1), ("FAILED", 3)))
    again = life(("SCHEDULED", 100), ("PENDING", 107), ("RUNNING", 108), ("COMPLETED", 408))
    for states in [again] if at_once else [[state] for state in again]:
        report(engine, run, *states)
    assert counts(engine) == {
        ("created", ""): 1,
        ("finished", "failed"): 1,
        ("finished", "succeeded"): 1,
        ("duration", "5"): 1,
        ("duration", "300"): 1,
        ("queue_wait", "1"): 1,
        ("queue_wait", "10"): 1,  # since it waits again, not since it was made
    }


def test_a_postponed_run_waits_for_a_slot_from_the_time_it_chose_and_ends_once(engine: Engine) -> None:
    run = facts()
    states = life(("SCHEDULED", 0), ("RUNNING", 1), ("SCHEDULED", 3), ("PENDING", 304), ("RUNNING", 305))
    states[2] = replace(states[2], message=postponed_message(START + timedelta(seconds=303), "one failed"))
    states += life(("COMPLETED", 315))
    for state in states:
        report(engine, run, state)
    assert counts(engine) == {
        ("created", ""): 1,
        ("finished", "succeeded"): 1,
        ("duration", "15"): 1,
        ("queue_wait", "1"): 1,
        ("queue_wait", "2.5"): 1,
    }


@pytest.mark.parametrize(("planned", "due", "bucket"), [(0, 7200, "5"), (7200, 7200, "5"), (9000, 7200, "5")])
def test_a_run_waits_from_when_it_was_due_however_often_that_was_changed(
    engine: Engine, planned: float, due: float, bucket: str
) -> None:
    run = replace(facts(), created_at=START + timedelta(seconds=planned))
    states = life(("SCHEDULED", 0), ("SCHEDULED", 5), ("PENDING", due + 3), ("RUNNING", due + 4))
    states[0] = replace(states[0], due_at=START + timedelta(seconds=planned))
    states[1] = replace(states[1], due_at=START + timedelta(seconds=due))
    for state in states:
        report(engine, run, state)
    assert counts(engine) == {("created", ""): 1, ("queue_wait", bucket): 1}


def test_a_rewritten_terminal_state_counts_once(engine: Engine) -> None:
    run = facts()
    report(engine, run, *life(("RUNNING", 1), ("COMPLETED", 3)))
    report(engine, run, *life(("CRASHED", 5)))
    seen = counts(engine)
    assert seen["finished", "succeeded"] == 1
    assert ("finished", "failed") not in seen


def test_a_late_report_of_an_attempt_before_counts_no_finish_twice(engine: Engine) -> None:
    run = facts()
    report(engine, run, *life(("RUNNING", 1), ("COMPLETED", 30)))
    report(engine, run, *life(("SCHEDULED", 10)))  # it now is an end of attempt 2
    assert counts(engine)["finished", "succeeded"] == 1


def test_a_run_that_never_started_has_neither_duration_nor_wait(engine: Engine) -> None:
    report(engine, facts(), *life(("SCHEDULED", 0), ("CANCELLED", 9)))
    assert counts(engine) == {("created", ""): 1, ("finished", "cancelled"): 1}


def test_a_lost_run_lasted_until_its_last_heartbeat(engine: Engine, settings: Settings) -> None:
    run = facts()
    now = datetime.now(UTC)
    with engine.begin() as db:
        running = State(id=uuid4(), at=now - timedelta(seconds=400), type="RUNNING", name="Running")
        apply_states(db, facts=run, states=[running])
        assert write_heartbeat(db, run_id=run.id, attempt=1) is AttemptStatus.OURS
        fence_run(db, run_id=run.id, reason="HeartbeatTimeout")
        note_reaped(db, run_id=run.id, attempt=1)
        sweep(db, settings)
    seen = counts(engine)
    assert seen["finished", "failed"] == 1
    assert seen["duration", "600"] == 1


def test_a_value_on_a_bound_is_in_that_bucket_and_a_huge_one_in_the_last(engine: Engine) -> None:
    for seconds in (60, 60.5, 28800, 28801):
        report(engine, facts(), *life(("RUNNING", 0), ("COMPLETED", seconds)))
    seen = counts(engine)
    assert [seen["duration", bound] for bound in ("60", "120", "28800", "Infinity")] == [1, 1, 1, 1]


def test_folding_moves_no_figure_and_empties_the_deltas(engine: Engine) -> None:
    for _ in range(5):
        report(engine, facts(), *life(*WHOLE))
    before = counts(engine)
    with engine.begin() as db:
        assert fold_deltas(db, batch=7) == 7
    assert counts(engine) == before
    with engine.begin() as db:
        assert fold_deltas(db) == 13
        assert fold_deltas(db) == 0
        latest = db.scalar(text("SELECT latest_at FROM ops.metric_totals WHERE name = 'finished'"))
    assert counts(engine) == before
    assert latest == START + timedelta(seconds=24)


def test_a_second_folder_does_nothing_while_the_first_is_at_it(engine: Engine) -> None:
    report(engine, facts(), *life(*WHOLE))
    with engine.begin() as first, engine.begin() as second:
        assert fold_deltas(first) == 4
        assert fold_deltas(second) == 0
    assert counts(engine) == OF_WHOLE


def test_a_transaction_that_commits_late_is_counted(engine: Engine) -> None:
    report(engine, facts(), *life(("SCHEDULED", 0)))  # makes the day's session, which the two below share
    with engine.begin() as late:
        apply_states(late, facts=facts(), states=life(*WHOLE))
        report(engine, facts(), *life(("SCHEDULED", 0)))
        with engine.begin() as db:
            assert fold_deltas(db) == 2
    assert counts(engine) == OF_WHOLE | {("created", ""): 3}


def test_a_report_that_is_rolled_back_counts_nothing(engine: Engine) -> None:
    with engine.connect() as db:
        apply_states(db, facts=facts(), states=life(*WHOLE))
        db.rollback()
    assert counts(engine) == {}


def test_deleted_history_moves_no_figure(engine: Engine) -> None:
    report(engine, facts(), *life(*WHOLE))
    with engine.begin() as db:
        db.execute(text("DELETE FROM ops.runs"))
    assert counts(engine) == OF_WHOLE


def test_heartbeats_are_hot_updates(engine: Engine) -> None:
    with engine.begin() as db:
        db.execute(text("SET LOCAL ROLE NONE"))  # who owns the tables
        for table in ("runs", "run_steps"):  # an ANALYZE in the background has a snapshot: no page is pruned beside it
            db.execute(text(f"ALTER TABLE ops.{table} SET (autovacuum_enabled = false)"))
        db.execute(text("INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 'tests')"))
        ids = list(
            db.scalars(  # at once: no page keeps room that an update left there
                text(
                    "INSERT INTO ops.runs (id, session_id, kind, lane, status, params, state_id, state_at) "
                    "SELECT gen_random_uuid(), (SELECT id FROM ops.sessions), 'deploy', 'A', 'running', "
                    "jsonb_build_object('x', repeat('y', n % 900)), gen_random_uuid(), now() "
                    "FROM generate_series(1, 300) n RETURNING id"
                )
            )
        )
        db.execute(
            text(
                "INSERT INTO ops.run_states (id, run_id, at, type, name) "
                "SELECT state_id, id, state_at, 'RUNNING', 'Running' FROM ops.runs"
            )
        )
        db.execute(
            text(
                "INSERT INTO ops.run_steps "
                "(run_id, attempt, index, name, status, command, timeout_seconds, started_at) "
                "SELECT id, 1, 1, 'pg_dump', 'running', repeat('x', 300), 600, now() FROM ops.runs"
            )
        )
    before = updates(engine)
    for run_id in ids * 5:  # one after another: beside a transaction that waits for its CPU, no room is made on pages
        beat(engine, run_id)
    wait_for(lambda: updates(engine)["runs"][0] - before["runs"][0] >= 1500, seconds=60, what="all sessions reported")
    after = updates(engine)
    for table in ("runs", "run_steps"):
        total, hot = (now - then for now, then in zip(after[table], before[table], strict=True))
        assert total == 1500
        assert hot / total >= 0.9, table


def beat(engine: Engine, run_id: UUID) -> None:
    with engine.begin() as db:
        progress = {1: Progress(done_bytes=412_000_000, total_bytes=654_000_000, bytes_per_second=38.2)}
        assert write_heartbeat(db, run_id=run_id, attempt=1, progress=progress) is AttemptStatus.OURS


def updates(engine: Engine) -> dict[str, tuple[int, int]]:
    """All updates of runs and of steps so far, and those that were HOT."""
    engine.dispose()  # a session that ends reports what it did
    with engine.connect() as db:
        seen: dict[str, tuple[int, int]] = {}
        while True:  # until two looks agree: sessions report as they end
            rows = db.execute(
                text(
                    "SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables "
                    "WHERE relname IN ('runs', 'run_steps')"
                )
            )
            found = {str(row[0]): (int(row[1]), int(row[2])) for row in rows}
            if found == seen:
                return found
            seen = found
            db.execute(text("SELECT pg_sleep(0.5), pg_stat_clear_snapshot()"))
