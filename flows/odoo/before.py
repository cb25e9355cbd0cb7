"""What the room knows of an upgrade from before it changed anything, as events of its run: by that it is taken back."""

from __future__ import annotations

from datetime import UTC
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import Connection, exists, select
from sqlmodel import col

from blocks.odoo_host import OdooHost
from flows.engine.active_run import ActiveRun, current_run
from flows.engine.ops_database import in_ops
from opsdb.errors import PreflightError
from opsdb.runs.events import read_event_data
from opsdb.runs.lookup import short_id
from opsdb.tables import Run, RunStep, StepStatus

UPGRADE = "odoo_module_upgrade"
ROLLBACK = "odoo_upgrade_rollback"
STOPS_ODOO, STARTS_ODOO = "stop_odoo", "start_odoo"
"""The first step of both that changes something, and the one from which on people work again."""
CHECKS_OUT = "pull_latest"
UPGRADES_MODULES = "upgrade_modules"
"""The step from whose beginning on the database is no longer the previous one."""
_PLACE = "previous place"
_CHECKED_OUT = "checked out"
_PROTECTION = "protection"


class Place(BaseModel):
    """Where an upgrade took place, and the commit that was checked out there before."""

    model_config = ConfigDict(frozen=True)

    database: str
    commit: str
    ssh_destination: str
    ssh_port: int
    repo_dir: str
    compose_file: str
    service: str
    health_url: str

    @property
    def host(self) -> OdooHost:
        """The host, as the upgrade found it, whatever became of its block."""
        return OdooHost(**self.model_dump(exclude={"database", "commit"}))


class Protection(BaseModel):
    """How a database and its filestore are kept from before an upgrade."""

    model_config = ConfigDict(frozen=True)

    protect: Literal["dump", "copy"]
    made_at: AwareDatetime
    """By the clock of the database's server."""
    backup: str = ""
    """The file name of the dump, in the folder `backup_dir`."""
    backup_dir: str = ""
    attempt: int = 1
    """The attempt that made it: since a later one began, people may have worked."""
    filestore: bool
    """Whether the filestore is kept as well."""

    @property
    def words(self) -> str:
        """What it is, for people."""
        kept = self.backup or "a copy on the server"
        return f"{kept} of {self.made_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" + (
            "" if self.filestore else ", without a filestore"
        )


class Before(BaseModel):
    """All that is recorded of one upgrade."""

    upgrade: UUID
    attempt: int
    """The newest one."""
    place: Place
    protection: Protection | None
    begun: bool
    """Whether it began to upgrade modules."""
    since: list[str]
    """The short ids of other upgrades of the database that began to upgrade modules later."""


def note_place(database: str, host: OdooHost, commit: str, head: str = "") -> str:
    """Record where the current run upgrades, and from which commit, once for each attempt. Returns that commit.

    `head` is what is checked out, where an upgrade that touched no module has left another commit than the previous
    one. What an earlier attempt found stands where it began to upgrade modules, or where the checkout is still as that
    attempt left it: the commit that was found is then not the one that the database belongs to.
    """
    run = current_run()
    if run.in_lane and run.attempt > 1:
        earlier = in_ops(run.settings, lambda db: _place_that_stands(db, run, database, commit))
        if earlier is not None:
            return earlier.commit
    facts = host.model_dump(include=set(OdooHost.model_fields))
    place = Place(database=database, commit=commit, **facts).model_dump(mode="json")
    left = f": {head[:12]} was checked out since, for an upgrade that touched no module"
    message = f"{host.repo_dir} was at {commit[:12]} before{left if head not in ('', commit) else ''}"
    run.event(message, once=_names(_PLACE, run.attempt)[-1], **place)
    return commit


def note_checked_out(host: OdooHost, commit: str) -> None:
    """Record which commit this attempt checks out."""
    run = current_run()
    run.event(f"{host.repo_dir} is to be at {commit[:12]}", once=f"{_CHECKED_OUT} {run.attempt}", commit=commit)


def read_commit_before() -> str | None:
    """The commit that the current run's earlier attempts noted as the previous one."""
    run = current_run()
    data = in_ops(run.settings, lambda db: read_event_data(db, run.id, _names(_PLACE, run.attempt)))
    return None if data is None else Place.model_validate(data).commit


def read_checked_out() -> str | None:
    """The commit that the current run's earlier attempts noted as checked out."""
    run = current_run()
    own = [f"{_CHECKED_OUT} {number}" for number in range(1, run.attempt)]
    data = in_ops(run.settings, lambda db: read_event_data(db, run.id, own))
    return None if data is None else str(data["commit"])


def note_protection(protection: Protection) -> None:
    """Record what the current run has kept from before, and the command that takes the upgrade back."""
    run = current_run()
    run.event(
        f"kept: {protection.words}. `ops rollback {short_id(run.id)}` takes this upgrade back",
        once=f"{_PROTECTION} {run.attempt}",
        **protection.model_dump(mode="json"),
    )


def has_begun_earlier() -> bool:
    """Whether an earlier attempt of the current run began to upgrade modules."""
    run = current_run()
    if not run.in_lane or run.attempt == 1:
        return False
    return in_ops(run.settings, lambda db: _begun(db, run.id, before=run.attempt))


def tell_how_far() -> str:
    """How far the earlier attempts of the current run were, of which nothing has to be put back."""
    run = current_run()
    if run.in_lane and in_ops(run.settings, lambda db: is_complete(db, run.id)):
        return "all modules were upgraded and the service was started, and nothing was asked of its health afterwards"
    if has_begun_earlier():
        return "what it left half way was put back already"
    return "it had not begun to upgrade, and nothing has to be put back"


def read_protection_of_begun() -> Protection | None:
    """The protection that an earlier attempt of the current run made before it began to upgrade modules, if it did."""
    run = current_run()
    if not run.in_lane or run.attempt == 1:
        return None
    return in_ops(
        run.settings,
        lambda db: _protection(db, run.id, run.attempt) if _begun(db, run.id, before=run.attempt) else None,
    )


def refuse_taken_back() -> None:
    """Raise PreflightError in another attempt of the current run when a rollback has begun to take it back.

    What its steps did does not stand any more, and what it kept is not the previous state any more.
    """
    run = current_run()
    if run.in_lane and run.attempt > 1 and (by := in_ops(run.settings, lambda db: _taken_back_by(db, run.id))):
        raise PreflightError(
            f"run {short_id(by)} took this upgrade back, or began to. Hint: `ops rerun {short_id(run.id)}` starts a "
            "new upgrade, with a protection of its own"
        )


def is_complete(db: Connection, upgrade: UUID) -> bool:
    """Whether an attempt came so far that Odoo was started after the upgrade."""
    ended = [col(RunStep.name) == STARTS_ODOO, col(RunStep.status) == StepStatus.SUCCEEDED]
    return bool(db.scalar(select(exists().where(col(RunStep.run_id) == upgrade, *ended))))


def read_before(upgrade: UUID, database: str) -> Before:
    """What is recorded of the upgrade of a database. Raises PreflightError for any other run."""
    return in_ops(current_run().settings, lambda db: _read(db, upgrade, database))


def refuse_other_attempt(before: Before, attempt: int) -> None:
    """Raise PreflightError when a rollback was offered for an earlier attempt than the newest; 0 stands for any."""
    if attempt not in (0, before.attempt):
        name = short_id(before.upgrade)
        raise PreflightError(
            f"attempt: this rollback was offered for attempt {attempt} of run {name}, and attempt {before.attempt} "
            f"came since. Nothing was changed. Hint: `ops show {name}` says how that one ended, and "
            f"`ops rollback {name}` takes it back"
        )


def _read(db: Connection, upgrade: UUID, database: str) -> Before:
    run = db.execute(
        select(col(Run.kind), col(Run.params), col(Run.attempt)).where(col(Run.id) == upgrade)
    ).one_or_none()
    if run is None or run.kind != UPGRADE:
        found = f"a run of {run.kind}" if run else "not recorded here"
        raise PreflightError(f"upgrade: {upgrade} is {found}. Hint: name a run of {UPGRADE}; `ops runs` lists them")
    if (own := run.params.get("odoo_db")) != database:
        raise PreflightError(f"odoo_db: run {short_id(upgrade)} upgraded {own}, not {database}. Hint: name {own}")
    place = read_event_data(db, upgrade, _names(_PLACE, run.attempt))
    if place is None:
        raise PreflightError(f"run {short_id(upgrade)} changed nothing: it ended before it looked at its checkout")
    return Before(
        upgrade=upgrade,
        attempt=run.attempt,
        place=Place.model_validate(place),
        protection=_protection(db, upgrade, run.attempt),
        begun=_begun(db, upgrade),
        since=_others_since(db, upgrade, database),
    )


def _names(name: str, attempts: int) -> list[str]:
    """Of events that each attempt records once. The first one's has no number."""
    return [name, *(f"{name} {number}" for number in range(2, attempts + 1))]


def _place_that_stands(db: Connection, run: ActiveRun, database: str, commit: str) -> Place | None:
    if (data := read_event_data(db, run.id, _names(_PLACE, run.attempt - 1))) is None:
        return None
    place = Place.model_validate(data)
    if _begun(db, run.id, before=run.attempt):
        return place
    own = [f"{_CHECKED_OUT} {number}" for number in range(1, run.attempt)]
    left = read_event_data(db, run.id, own)
    as_left = left is not None and left["commit"] == commit
    return place if as_left and not _others_since(db, run.id, database, own_step=CHECKS_OUT) else None


def _taken_back_by(db: Connection, upgrade: UUID) -> UUID | None:
    return db.scalar(
        select(col(Run.id))
        .join(RunStep, col(RunStep.run_id) == col(Run.id))
        .where(
            col(Run.kind) == ROLLBACK,
            col(Run.params)["upgrade"].astext == str(upgrade),
            col(RunStep.name) == STOPS_ODOO,
        )
        .limit(1)
    )


def _protection(db: Connection, upgrade: UUID, attempts: int) -> Protection | None:
    names = [f"{_PROTECTION} {number}" for number in range(1, attempts + 1)]
    data = read_event_data(db, upgrade, names)
    return None if data is None else Protection.model_validate(data)


def _begun(db: Connection, upgrade: UUID, *, before: int | None = None) -> bool:
    begun = [
        col(RunStep.run_id) == upgrade,
        col(RunStep.name) == UPGRADES_MODULES,
        col(RunStep.status) != StepStatus.SKIPPED,
    ]
    if before is not None:
        begun.append(col(RunStep.attempt) < before)
    return bool(db.scalar(select(exists().where(*begun))))


def _others_since(db: Connection, upgrade: UUID, database: str, *, own_step: str = UPGRADES_MODULES) -> list[str]:
    ours = select(col(RunStep.started_at)).where(col(RunStep.run_id) == upgrade, col(RunStep.name) == own_step)
    first = db.scalar(ours.order_by(col(RunStep.started_at)).limit(1))
    if first is None:
        return []
    others = (
        select(col(Run.id))
        .join(RunStep, col(RunStep.run_id) == col(Run.id))
        .where(
            col(Run.kind) == UPGRADE,
            col(Run.params)["odoo_db"].astext == database,
            col(Run.id) != upgrade,
            col(RunStep.name) == UPGRADES_MODULES,
            col(RunStep.status) != StepStatus.SKIPPED,
            col(RunStep.started_at) > first,
        )
        .distinct()
    )
    return sorted(short_id(one) for one in db.scalars(others))
