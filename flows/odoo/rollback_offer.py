"""What becomes of an upgrade that failed: taken back at once, after a person said yes, or left as it is.

A rollback is a run of its own. It waits until the upgrade's run, which holds the database, is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import httpx
from prefect import get_client
from sqlalchemy import Connection, Row, select
from sqlmodel import col

from flows.engine.active_run import current_run
from flows.engine.child_runs import NotStartedError, start_child_run
from flows.engine.ops_database import in_ops
from flows.odoo.before import ROLLBACK, UPGRADE, is_complete, read_before
from opsdb.errors import OpsError, PreflightError, StepError
from opsdb.runs.lookup import short_id
from opsdb.tables import Lane, Run

Rollback = Literal["on_failure", "ask", "never"]


@contextmanager
def taken_back_on_failure(database: str, rollback: Rollback) -> Iterator[None]:
    """Start a rollback when the block raises StepError after modules began to be upgraded; the error is raised again.

    Nothing is started where nothing is protected, and by a run in no lane. A rollback that cannot be started is an
    event with the command that starts it.
    """
    try:
        yield
    except StepError:
        run = current_run()
        if rollback != "never" and run.in_lane:
            try:
                _start(database, ask=rollback == "ask")
            except (OpsError, httpx.HTTPError) as error:
                again = f"`ops rollback {short_id(run.id)}` starts it"
                run.event(f"the rollback was not started: {error}. {again}", level="error")
        raise


def _start(database: str, *, ask: bool) -> None:
    run = current_run()
    run.wait_until_recorded()
    try:
        before = read_before(run.id, database)
    except PreflightError:
        return  # it ended before it changed anything
    if not before.begun or before.protection is None:
        return
    row = in_ops(run.settings, _facts)
    # people may have worked: after the attempt that made the protection, or after an upgrade that was complete
    killed = run.life is not None and run.life.began_again_by_itself
    ask |= before.protection.attempt != (run.attempt - 1 if killed else run.attempt)
    ask |= killed and in_ops(run.settings, lambda db: is_complete(db, run.id))
    with get_client(sync_client=True) as client:
        started = start_child_run(
            client,
            starter=UPGRADE,
            kind=ROLLBACK,
            lane=Lane(row.lane),
            parameters={"odoo_db": database, "upgrade": str(run.id), "ask": ask, "attempt": run.attempt},
            priority=row.priority,
            session_id=row.session_id,
            key=f"rollback:{run.id}:{run.attempt}",
        )
    name = short_id(started.id)
    does = f"asks whether to take this upgrade back: `ops approve {name}`" if ask else "takes this upgrade back"
    run.event(f"run {name} {does}, to {before.protection.words}", level="warning", rollback=str(started.id))


def _facts(db: Connection) -> Row[tuple[object, ...]]:
    columns = (col(Run.lane), col(Run.priority), col(Run.session_id))
    row = db.execute(select(*columns).where(col(Run.id) == current_run().id)).one_or_none()
    if row is None:
        raise NotStartedError("the run is not recorded")
    return row  # type: ignore[return-value]
