"""The status of sessions follows their runs."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from opsdb.errors import UsageError
from opsdb.runs.runs import apply_states
from opsdb.runs.sessions import cancel_session, find_session, join_session, make_session, settle_sessions
from tests.support.recorded_runs import make_facts, make_states


def status_of(engine: Engine, session: UUID) -> str:
    with engine.begin() as db:
        settle_sessions(db)
        found: str = db.execute(text("SELECT status FROM ops.sessions WHERE id = :id"), {"id": session}).scalar_one()
        return found


def run_in(engine: Engine, session: UUID, *states: str) -> UUID:
    facts = make_facts(session_id=session)
    with engine.begin() as db:
        apply_states(db, facts=facts, states=make_states(*states))
    return facts.id


def test_session_is_completed_while_all_its_runs_are_over(engine: Engine) -> None:
    with engine.begin() as db:
        session = make_session(db, name="release")
    assert status_of(engine, session) == "active"  # without runs
    run_in(engine, session, "RUNNING", "FAILED")
    assert status_of(engine, session) == "completed"
    run_in(engine, session, "SCHEDULED")
    assert status_of(engine, session) == "active"


def test_last_two_runs_that_end_at_once_complete_their_session(engine: Engine) -> None:
    with engine.begin() as db:
        session = make_session(db, name="race")
    facts = [make_facts(session_id=session) for _ in range(2)]
    states = [make_states("RUNNING", "COMPLETED") for _ in facts]
    for fact, (running, _) in zip(facts, states, strict=True):
        with engine.begin() as db:
            apply_states(db, facts=fact, states=[running])
    with engine.begin() as one, engine.begin() as two:  # neither sees the other's end
        for db, fact, (_, over) in zip((one, two), facts, states, strict=True):
            apply_states(db, facts=fact, states=[over])
            settle_sessions(db)
    assert status_of(engine, session) == "completed"


def test_cancelled_session_stays_cancelled_and_is_not_joined(engine: Engine) -> None:
    with engine.begin() as db:
        session = make_session(db, name="stopped")
        cancel_session(db, session)
    run_in(engine, session, "RUNNING", "CANCELLED")
    assert status_of(engine, session) == "cancelled"
    with engine.begin() as db:
        assert join_session(db, "stopped") != session
        with pytest.raises(UsageError, match="was cancelled"):
            join_session(db, str(session))


def test_name_joins_the_newest_session_also_a_completed_one(engine: Engine) -> None:
    with engine.begin() as db:
        older = make_session(db, name="again")
    with engine.begin() as db:
        newer = make_session(db, name="again")
        assert join_session(db, "again") == newer
    run_in(engine, newer, "RUNNING", "COMPLETED")
    assert status_of(engine, newer) == "completed"
    with engine.begin() as db:
        assert join_session(db, "again") == newer
        assert join_session(db, str(older)) == older


def test_making_a_session_again_under_its_id_changes_nothing(engine: Engine) -> None:
    chosen = uuid4()
    with engine.begin() as db:
        assert make_session(db, session_id=chosen, name="first") == chosen
        assert make_session(db, session_id=chosen, name="second") == chosen
        assert find_session(db, "first") == chosen


def test_session_is_found_by_name_id_and_part_of_its_id(engine: Engine) -> None:
    with engine.begin() as db:
        session = make_session(db, name="10% off_")
        for wanted in ("10% off_", str(session), session.hex[-8:], session.hex[:6].upper()):
            assert find_session(db, wanted) == session
        for unknown in ("10%", "%", "_", "' OR true --"):
            with pytest.raises(UsageError, match="no session"):
                find_session(db, unknown)
