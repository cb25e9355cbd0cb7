"""The runbook `nightly_backup`: a backup of each database, in a session of their own, once per tick of the schedule."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx
from prefect import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling
from pydantic import Field
from sqlalchemy import func, select

from blocks.fields import BlockName
from flows.backup.database import Database
from flows.backup.folder import backup_folder
from flows.backup.parameters import BackupFolder, OdooDatabases, RetentionDays
from flows.engine.active_run import current_run
from flows.engine.ops_database import in_ops
from flows.engine.runbook import runbook
from flows.engine.step import action
from flows.offsite.target import find_target
from opsdb.errors import MissedError, PreflightError, RoomUnreachableError, StepFailedError
from opsdb.runs.lookup import reading, short_id
from opsdb.runs.prefect_runs import queue_of, tags_of
from opsdb.runs.sessions import is_cancelled, make_session
from opsdb.tables import Lane

DEADLINE_SECONDS = 900
LANE = Lane.A
PRIORITY = 10
DATABASES = ["odoo_prod", "odoo_staging"]

LatenessMinutes = Annotated[int, Field(ge=1, le=1440)]


@runbook(deadline_seconds=DEADLINE_SECONDS, max_attempts=3)
def nightly_backup(  # noqa: PLR0917 - they are passed by name
    databases: OdooDatabases = DATABASES,
    retention_days: RetentionDays = 30,
    backup_dir: BackupFolder | None = None,
    lateness_minutes: LatenessMinutes = 120,
    restore_drill: bool = False,
    target: BlockName | None = None,
) -> dict[str, Any]:
    """Start a backup of each Odoo database in lane A, all in one session `Daily Backup`, and end.

    It starts nothing unless it can connect to all of them. However often it is repeated for
    one tick of its schedule, there is one session and one backup of each database. The backups go on by themselves.

    Args:
        databases: Databases to back up, each once.
        retention_days: Days after which earlier backups are deleted; the three newest good ones of a database stay.
        backup_dir: Absolute path of the folder for the dumps, without `..`. Left empty: the room's own.
        lateness_minutes: Minutes after its time in which a run of the schedule still starts backups; then it is missed.
        restore_drill: Whether each backup is restored into a scratch database and compared before old ones go.
        target: Name of a Backup Target block, to which each backup is copied. Left empty: they stay in their folder.
    """
    run = current_run()
    again = _by_hand(
        databases=databases,
        retention_days=retention_days,
        backup_dir=backup_dir,
        restore_drill=restore_drill,
        target=target,
    )
    tick = run.due_at.astimezone(UTC).isoformat() if run.due_at else str(run.id)
    if run.due_at is not None:
        due_at = run.due_at
        action(
            "in time",
            lambda: _check_lateness(due_at, lateness_minutes, again),
            about=f"compare {tick} with the clock",
            preflight=True,
        )
    action("preflight", lambda: _check(databases), about=f"connect to {', '.join(databases)}", preflight=True)
    folder = backup_folder(backup_dir)
    if target:
        find_target(target, folder)
    session_id = uuid5(NAMESPACE_URL, f"ops:nightly-backup:{tick}")
    action("session", lambda: _make_session(session_id, run.due_at), about=f"session Daily Backup {session_id}")
    parameters: dict[str, Any] = {"retention_days": retention_days, "restore_drill": restore_drill}
    if backup_dir:
        parameters["backup_dir"] = backup_dir
    if target:
        parameters["target"] = target
    started = {}
    for database in databases:
        run_id = action(
            f"start {database}",
            partial(
                _start,
                {"odoo_db": database, **parameters},
                session_id=session_id,
                key=f"nightly-backup:{tick}:{database}",
                again=again,
            ),
            about=f"odoo_db_backup of {database} in lane {LANE}, priority {PRIORITY}",
        )
        started[database] = str(run_id)
    return {"session": str(session_id), "runs": started}


def _by_hand(**parameters: Any) -> str:
    """The command that backs up the same at once, for a shell. `ops run` would not take what a schedule gave."""
    words = ["ops", "run", "nightly_backup"]
    for name, value in parameters.items():
        if value is not None:
            text = ",".join(value) if isinstance(value, list) else str(value)
            words += ["-p", f"{name}={text.lower() if isinstance(value, bool) else text}"]
    return shlex.join(words)


def _check_lateness(due_at: datetime, allowed_minutes: int, again: str) -> None:
    settings = current_run().settings
    now: datetime = in_ops(settings, lambda db: db.execute(select(func.clock_timestamp())).scalar_one())
    late = now - due_at
    if late <= timedelta(minutes=allowed_minutes):
        return
    message = (
        f"missed: due at {due_at:%Y-%m-%d %H:%M} UTC, and it is {int(late.total_seconds() // 60)} minutes later, "
        f"where {allowed_minutes} are allowed. To back up the same now: {again}"
    )
    current_run().event(message, level="warning", due_at=due_at.isoformat())
    raise MissedError(message)


def _check(databases: list[str]) -> None:
    wrong = []
    for database in databases:
        try:
            Database(database, current_run().settings.odoo_url).connect().close()
        except PreflightError as error:
            wrong.append(str(error))
    if wrong:
        raise PreflightError("no backup was started. " + "; ".join(wrong))


def _make_session(session_id: UUID, due_at: datetime | None) -> None:
    """Before any run that names it: a run of a session that is not there counts as started outside one."""
    about = f"Automated backup {due_at:%Y-%m-%d %H:%M} UTC" if due_at else "Backup of all databases, started by hand"
    triggered_by = "schedule" if due_at else "manual"
    in_ops(
        current_run().settings,
        lambda db: make_session(
            db, session_id=session_id, name="Daily Backup", description=about, triggered_by=triggered_by
        ),
    )


def _start(parameters: dict[str, Any], *, session_id: UUID, key: str, again: str) -> UUID:
    """Start the backup of one database. With a key that was used before, that is the run of then.

    Raises StepFailedError when its session was cancelled, also when that happens meanwhile: then the run is as well.
    """
    _check_session(session_id, parameters["odoo_db"], again)
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(f"odoo_db_backup/{LANE.pool}")
        except ObjectNotFound:
            raise StepFailedError(
                f"odoo_db_backup is not deployed to lane {LANE}: `ops deploy` puts it there"
            ) from None
        run = client.create_flow_run_from_deployment(
            deployment.id,
            parameters=parameters,
            tags=tags_of(priority=PRIORITY, session_id=session_id),
            work_queue_name=queue_of(PRIORITY),
            idempotency_key=key,
        )
        try:
            _check_session(session_id, parameters["odoo_db"], again)
        except StepFailedError:
            # who cancelled the session may not have seen this run
            if run.state is None or not run.state.is_final():
                try:
                    client.set_flow_run_state(run.id, Cancelling(message="its session was cancelled meanwhile"))
                except httpx.HTTPError as error:
                    current_run().event(
                        f"the backup of {parameters['odoo_db']} had just been started and runs all the same, since "
                        f"Prefect did not answer ({type(error).__name__}): ops cancel {short_id(run.id)}",
                        level="warning",
                    )
            raise
    return run.id


def _check_session(session_id: UUID, database: str, again: str) -> None:
    try:
        with reading(current_run().settings) as db:
            cancelled = is_cancelled(db, session_id)
    except RoomUnreachableError:
        return  # a backup too many is better than a night without
    if cancelled:
        message = (
            f"session {session_id} was cancelled: the backup of {database} and those after it do not run. "
            f"To back up all in a new session: {again}"
        )
        current_run().event(message, level="warning", session=str(session_id))
        raise StepFailedError(message)
