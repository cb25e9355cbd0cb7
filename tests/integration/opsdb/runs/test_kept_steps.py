"""Which version of a runbook the steps of an earlier attempt may be of."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from opsdb.errors import UsageError
from opsdb.runs.kept_steps import read_kept

HASH, ANOTHER = "a" * 64, "b" * 64


def insert_run(engine: Engine, *, definition: str | None) -> UUID:
    """A run whose first step succeeded, and whose second one waits for an approval."""
    run = uuid4()
    with engine.begin() as db:
        db.execute(
            text(
                "WITH s AS (INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 's') RETURNING id)"
                " INSERT INTO ops.runs (id, kind, lane, status, params, created_at, session_id, state_id, state_at)"
                " SELECT :run, 'example', 'A', 'queued', '{}', now(), s.id, gen_random_uuid(), now() FROM s"
            ),
            {"run": run},
        )
        db.execute(
            text(
                "INSERT INTO ops.run_steps (run_id, attempt, index, name, status, command, timeout_seconds, started_at,"
                " finished_at, definition)"
                " VALUES (:run, 1, 1, 'build', 'succeeded', 'make build', 5, now(), now(), :d),"
                " (:run, 1, 2, 'ask', 'suspended', 'deploy?', 5, now(), now(), :d)"
            ),
            {"run": run, "d": definition},
        )
    return run


@pytest.mark.parametrize(
    ("recorded", "version"),
    [
        ("1", "1"),
        (HASH, "1"),  # of the room before versions: names and commands decide
        (HASH, HASH),  # a template that has not changed
    ],
)
def test_steps_of_the_same_version_stand(recorded: str, version: str, engine: Engine) -> None:
    run = insert_run(engine, definition=recorded)
    with engine.begin() as db:
        standing = read_kept(db, run_id=run, attempts=range(1, 2), version=version, resource=None)
    assert [(step.name, step.command) for step in standing.steps] == [("build", "make build")]
    assert standing.asked == ("ask", "deploy?")


@pytest.mark.parametrize(
    ("recorded", "version", "told"),
    [
        ("1", "2", r"runbook example has changed since its steps ran \(version '1', now '2'\)"),
        (HASH, ANOTHER, r"runbook example has changed since its steps ran \(version 'aaaaaaaaaaaa', now 'bbb"),
        ("1", HASH, "runbook example has changed"),  # it is a template now
        (None, "1", "recorded before steps could be kept"),
    ],
)
def test_steps_of_another_version_do_not_stand(recorded: str | None, version: str, told: str, engine: Engine) -> None:
    run = insert_run(engine, definition=recorded)
    with engine.begin() as db, pytest.raises(UsageError, match=told):
        read_kept(db, run_id=run, attempts=range(1, 2), version=version, resource=None)


@pytest.mark.parametrize("sealed", [True, False])
def test_steps_that_end_with_their_attempt_stand_once_what_they_made_is_sealed(engine: Engine, sealed: bool) -> None:
    run = insert_run(engine, definition="1")
    with engine.begin() as db:
        db.execute(
            text("UPDATE ops.run_steps SET must_run_again = index = 1, status = 'succeeded' WHERE run_id = :run"),
            {"run": run},
        )
        if sealed:
            db.execute(
                text(
                    "INSERT INTO ops.step_results (run_id, attempt, index, result)"
                    " VALUES (:run, 1, 2, jsonb_build_object('value', jsonb_build_object('sealed_from', 1)))"
                ),
                {"run": run},
            )
    with engine.begin() as db:
        if not sealed:
            with pytest.raises(UsageError, match="step 1, build, succeeded and must run again"):
                read_kept(db, run_id=run, attempts=range(1, 2), version="1", resource=None)
            return
        standing = read_kept(db, run_id=run, attempts=range(1, 2), version="1", resource=None)
    assert [step.sealed_from for step in standing.steps] == [None, 1]
