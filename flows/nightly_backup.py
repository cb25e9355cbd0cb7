"""The runbook `nightly_backup`: a backup of each database, in a session of their own, once per tick of the schedule.

Each database is backed up by a run of its own. The night starts those, ends its process, and starts again now and then,
to look at them and to start what failed once more. All that it knows of them stands in Prefect, so that it may be
repeated, or die, at any moment.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelling
from pydantic import Field

from flows.backup.folder import backup_folder
from flows.backup.night import Outlook, Todo, Try, Window, named, not_backed_up, outlook, why_wait
from flows.backup.parameters import BackupFolder, OdooDatabases, OptionalTarget, RetentionDays
from flows.backup.reachable import find_unreachable
from flows.backup.told import night_facts
from flows.engine.active_run import current_run
from flows.engine.child_runs import NotStartedError, start_child_run
from flows.engine.ops_database import in_ops
from flows.engine.postponement import postpone
from flows.engine.runbook import runbook
from flows.engine.step import action
from flows.offsite.target import find_target
from opsdb.errors import PreflightError, RoomUnreachableError, StepFailedError
from opsdb.runs.backups import set_to_completed
from opsdb.runs.lookup import reading, short_id
from opsdb.runs.prefect_runs import state_of
from opsdb.runs.sessions import is_cancelled, make_session, tag_of
from opsdb.tables import Lane

DEADLINE_SECONDS = 900
BACKUP = "odoo_db_backup"
LANE = Lane.A
PRIORITY = 10
DATABASES = ["odoo_prod", "odoo_staging"]

LatenessMinutes = Annotated[int, Field(ge=1, le=1440)]


@runbook(
    deadline_seconds=DEADLINE_SECONDS,
    max_attempts=3,
    version="2",
    subject="${params.databases} · nightly backup",
    explain=night_facts,
)
def nightly_backup(  # noqa: PLR0917 - they are passed by name
    databases: OdooDatabases = DATABASES,
    retention_days: RetentionDays = 30,
    backup_dir: BackupFolder = "",
    lateness_minutes: LatenessMinutes = 120,
    restore_drill: bool = False,
    target: OptionalTarget = "",
) -> dict[str, Any]:
    """Back up each Odoo database by a run of its own in lane A, all in one session, Daily Backup.

    **When to use it:** its schedule starts it each night. To back up one more database, add it to the schedule.

    **What it changes:** what odoo_db_backup does, for each database. A failed backup does not stop the others: it is
    tried again, after 5 minutes and then less often. This run succeeds when all are backed up; else it fails when its
    time is over, and names what is missing. While it waits it takes no slot in the lane.

    **What it needs:** what odoo_db_backup needs.

    ```
    ops schedule set nightly-backup --add-db odoo_new
    ops run nightly_backup -p databases=odoo_prod,odoo_staging --wait
    ```

    Args:
        databases: Databases to back up, each once.
        retention_days: Days after which earlier backups are deleted. The three newest good ones of a database stay.
        backup_dir: Absolute path of the folder for the backups. Empty for the room's own.
        lateness_minutes: Minutes in which failed backups are tried again, from the scheduled time or a later start.
        restore_drill: Restore each backup into a scratch database and compare it, before old backups are deleted.
        target: Backup Target block to which each backup is copied. Empty for no copies.
    """
    run = current_run()
    now = run.clock() if run.clock else datetime.now(UTC)
    begun_at = (run.life and run.life.begun_at) or now
    window = Window(begun_at=begun_at, due_at=run.due_at, allowed=timedelta(minutes=lateness_minutes))
    parameters: dict[str, Any] = {"retention_days": retention_days, "restore_drill": restore_drill}
    parameters |= {name: value for name, value in (("backup_dir", backup_dir), ("target", target)) if value}
    night = Night(run.due_at.astimezone(UTC).isoformat() if run.due_at else str(run.id), parameters, window)
    try:
        tries = night.read_tries()
    except httpx.HTTPError as error:
        postpone(
            window.look_again_at(now, started_at=begun_at),
            f"Prefect did not say how the backups stand ({type(error).__name__})",
        )
        raise
    unreachable = None
    if not tries:
        unreachable = _check_begin(databases, night)
        folder = backup_folder(backup_dir)
        if target:
            find_target(target, folder)
        about = f"session Daily Backup {night.session_id}"
        action("session", lambda: _make_session(night.session_id, run.due_at), about=about)
    found = [outlook(database, tries[database], window=window, now=now) for database in databases]
    if left := [each.database for each in found if each.todo is not Todo.NOTHING]:
        night.check_session(left)
    for each in found:
        if each.reason and each.latest:
            again = f"; tried again at {each.at:%H:%M:%S} UTC" if each.todo is Todo.TRY_LATER else ""
            run.event(f"{each.database}: {each.reason}{again}", level="warning", once=str(each.latest.run_id))
    found = [night.start(each, now) if each.todo is Todo.TRY_NOW else each for each in found]
    if open_ := [each for each in found if each.todo in (Todo.WAIT, Todo.TRY_LATER)]:
        postpone(min(each.at for each in open_), why_wait(found))
    if failed := [each for each in found if each.todo is Todo.GIVE_UP]:
        again = night.by_hand([each.database for each in failed])
        raise StepFailedError(not_backed_up(failed, of=len(found), again=again))
    if unreachable:
        raise PreflightError(unreachable)
    return {"session": str(night.session_id), "backups": {each.database: each.outcome for each in found}}


def _check_begin(databases: list[str], night: Night) -> str | None:
    """In a dry run, say which databases cannot be reached.

    A run learns that from the backups themselves, which do not wait for each other.
    """
    if current_run().plan is None:
        return None
    about = f"connect to {', '.join(databases)}"
    return action("preflight", lambda: find_unreachable(databases, night.window), about=about, preflight=True)


def _make_session(session_id: UUID, due_at: datetime | None) -> None:
    """Before any run that names it: a run of a missing session counts as started outside one."""
    about = f"Automated backup {due_at:%Y-%m-%d %H:%M} UTC" if due_at else "Backup of all databases, started by hand"
    triggered_by = "schedule" if due_at else "manual"
    in_ops(
        current_run().settings,
        lambda db: make_session(
            db, session_id=session_id, name="Daily Backup", description=about, triggered_by=triggered_by
        ),
    )


@dataclass(frozen=True)
class Night:
    """The backups of one tick, or of one run that somebody started."""

    tick: str
    parameters: dict[str, Any]
    """What each of them is started with, beside its database."""
    window: Window

    @property
    def session_id(self) -> UUID:
        """The session that they are in."""
        return uuid5(NAMESPACE_URL, f"ops:nightly-backup:{self.tick}")

    def by_hand(self, databases: list[str]) -> str:
        """The command that backs these up the same way now, for a shell. `ops run` takes less than a schedule gives."""
        words = ["ops", "run", "nightly_backup", "-p", f"databases={','.join(databases)}"]
        for name, value in self.parameters.items():
            words += ["-p", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
        return shlex.join(words)

    def read_tries(self) -> dict[str, list[Try]]:
        """What was started so far, by database. Raises httpx.HTTPError; nothing was in a dry run."""
        found: dict[str, list[Try]] = defaultdict(list)
        if current_run().plan is not None:
            return found
        wanted = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag_of(self.session_id)]))
        with get_client(sync_client=True) as client:
            runs: list[FlowRun] = []
            while page := client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, offset=len(runs)):
                runs += page
        for run in runs:
            database = str(run.parameters.get("odoo_db"))
            key, _, number = (run.idempotency_key or "").rpartition(":")
            if f"{key}:" == self._key(database) and run.state is not None:  # else somebody put it into the session
                state = state_of(run.state)
                started_at = run.created or state.at
                found[database].append(Try(number=int(number), run_id=run.id, started_at=started_at, state=state))
        return _marked(found)

    def start(self, found: Outlook, now: datetime) -> Outlook:
        """Start the next backup of a database. Raises StepFailedError when the session was cancelled."""
        database, number = found.database, found.latest.number + 1 if found.latest else 1
        try:
            action(
                f"start {database}",
                lambda: self.start_try(database, number),
                about=f"odoo_db_backup of {database} in lane {LANE}, priority {PRIORITY}, try {number}",
            )
        except NotStartedError as error:
            current_run().event(str(error), level="warning", once=f"start {database}")
            at = self.window.try_again_at(now)
            todo = Todo.TRY_LATER if at < self.window.ends_at else Todo.GIVE_UP
            return replace(found, todo=todo, at=at, reason=str(error))
        return replace(found, todo=Todo.WAIT, at=self.window.look_again_at(now, started_at=now))

    def start_try(self, database: str, number: int) -> UUID:
        """Start one try of a database. A try that was started before is that run.

        Raises StepFailedError when the session was cancelled, also when that happens meanwhile: then the run is as
        well. Raises NotStartedError when Prefect refuses, or does not answer.
        """
        self.check_session([database])
        parameters = {"odoo_db": database, **self.parameters}
        with get_client(sync_client=True) as client:
            run = start_child_run(
                client,
                starter="nightly_backup",
                kind=BACKUP,
                lane=LANE,
                parameters=parameters,
                priority=PRIORITY,
                session_id=self.session_id,
                key=f"{self._key(database)}{number}",
            )
            try:
                self.check_session([database])
            except StepFailedError:
                _cancel(client, run, database)
                raise
        return run.id

    def check_session(self, databases: list[str]) -> None:
        """Raises StepFailedError when the session was cancelled: what is not backed up by then, is not."""
        try:
            with reading(current_run().settings) as db:
                cancelled = is_cancelled(db, self.session_id)
        except RoomUnreachableError:
            return  # a backup too many is better than a night without
        if cancelled:
            message = (
                f"session {self.session_id} was cancelled: no more backups of {named(databases)} are started. "
                f"To back up the same in a new session: {self.by_hand(databases)}"
            )
            current_run().event(message, level="warning", session=str(self.session_id))
            raise StepFailedError(message)

    def _key(self, database: str) -> str:
        """What a try's number is put behind, as the key under which it is started once."""
        return f"nightly-backup:{self.tick}:{database}:"


def _marked(found: dict[str, list[Try]]) -> dict[str, list[Try]]:
    """The same, with what somebody set to Completed marked so. While nobody can ask the record, Prefect is believed."""
    completed = [one.run_id for tries in found.values() for one in tries if one.good]
    if not completed:
        return found
    try:
        with reading(current_run().settings) as db:
            by_hand = set_to_completed(db, completed)
    except RoomUnreachableError:
        return found
    for database, tries in found.items():
        found[database] = [replace(one, set_to_completed=one.run_id in by_hand) for one in tries]
    return found


def _cancel(client: SyncPrefectClient, run: FlowRun, database: str) -> None:
    """Cancel a backup whose session was cancelled while it was started: who did that may not have seen it."""
    if run.state is not None and run.state.is_final():
        return
    try:
        client.set_flow_run_state(run.id, Cancelling(message="its session was cancelled meanwhile"))
    except httpx.HTTPError as error:
        current_run().event(
            f"the backup of {database} had just been started and runs all the same, since Prefect did not answer "
            f"({type(error).__name__}): ops cancel {short_id(run.id)}",
            level="warning",
        )
