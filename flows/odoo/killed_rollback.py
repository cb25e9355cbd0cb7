"""A rollback whose process was killed: what it had done, what is left, and the one command that resumes it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import psycopg
from sqlalchemy import Connection, select
from sqlmodel import col

from flows.backup.postgres import connect
from flows.engine.active_run import ActiveRun, current_run
from flows.engine.ops_database import in_ops
from flows.odoo import aside
from flows.odoo.before import STARTS_ODOO, STOPS_ODOO, Before
from flows.odoo.take_back import Phase, phase_of
from opsdb.errors import PreflightError, StepFailedError
from opsdb.record.journal import journal_dir
from opsdb.record.recorder import deliver_abandoned
from opsdb.runs.lookup import short_id
from opsdb.tables import RunStep, StepStatus

OF_CODE = (STOPS_ODOO, "code_of_before", "keep_code", STARTS_ODOO, "wait_health")
"""The steps that change production, in order, where no module was upgraded."""
OF_ALL = (
    *OF_CODE[:2],
    "count_again",
    "swap_databases",
    "swap_filestores",
    "all_in_place",
    "keep_code",
    "code_kept",
    "rebuild_assets",
    *OF_CODE[3:],
)
"""The same where a database is taken back."""
UNDOES = ("swap_filestores_again", "swap_databases_again", "code_of_now_again", "start_odoo_again")
"""The steps that undo those, where a later one failed."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The names of the steps of an attempt."""

    begun: Collection[str]
    ended: Collection[str]
    """Those that succeeded."""


def refuse_after_kill(before: Before) -> None:
    """Raise StepFailedError that says what is left, in an attempt that the room began after a death.

    It only reports: whether to resume, after whatever killed it, is for a person to decide.
    """
    run = current_run()
    if run.life is None or not run.life.began_again_by_itself:
        return
    left = tell_left(before, in_ops(run.settings, lambda db: read_steps(db, run)), read_phase(before))
    raise StepFailedError(f"the process of the attempt before was killed, and a rollback is not repeated: {left}")


def read_steps(db: Connection, run: ActiveRun) -> Steps:
    """The steps of the newest attempt before this one, with what its process could not deliver any more."""
    deliver_abandoned(db.engine, journal_dir(run.settings))
    columns = select(col(RunStep.name), col(RunStep.status))
    rows = db.execute(columns.where(col(RunStep.run_id) == run.id, col(RunStep.attempt) == run.attempt - 1)).all()
    done = (StepStatus.SUCCEEDED, StepStatus.SKIPPED)
    return Steps([row.name for row in rows], [row.name for row in rows if row.status in done])


def read_phase(before: Before) -> Phase | None:
    """How far the server is, whichever rollback brought it there; None where it does not say, or nothing is swapped."""
    if not before.begun:
        return None
    try:
        with connect(current_run().settings.odoo_url) as server:
            return phase_of(server, before)
    except (PreflightError, psycopg.Error):
        return None


def tell_left(before: Before, steps: Steps, phase: Phase | None) -> str:
    """What such an attempt left: the steps, which database is live, whether Odoo is stopped, and what to do.

    `phase` is what the server says: an earlier rollback may have brought it further than this one's steps did.
    """
    again = f"Hint: `ops rollback {short_id(before.upgrade)}`"
    order: tuple[str, ...] = OF_ALL if before.begun else OF_CODE
    if before.protection is None or not before.protection.filestore:
        order = tuple(one for one in order if one != "swap_filestores")
    live = f" {_live(before, phase)}." if before.begun else ""
    swapped = phase not in (None, Phase.NOT_YET)
    if not {*order, *UNDOES}.intersection(steps.begun):
        if swapped:
            return f"it had changed nothing itself by then.{live} {_service(before, steps)}. {again} resumes from there"
        return f"nothing of {before.place.database} was changed by then. {again} begins again"
    stands = f"{_service(before, steps)}. {again} resumes from there"
    if undoing := [one for one in UNDOES if one in steps.begun]:
        return f"a step had failed, and it was undoing what was done ({undoing[-1]}).{live} {stands}"
    ended = {*steps.ended, *_brought_about(order, phase)}
    done = [one for one in order if one in ended]
    left = [one for one in order if one not in ended]
    return f"done: {', '.join(done) or 'nothing'}; left: {', '.join(left) or 'nothing'}.{live} {stands}"


def _brought_about(order: tuple[str, ...], phase: Phase | None) -> tuple[str, ...]:
    """The steps that do not have to be done again, whoever did them."""
    match phase:
        case Phase.SETTLED:
            return order[: order.index("rebuild_assets")]
        case Phase.IN_PLACE:
            return order[: order.index("keep_code")]
        case Phase.SWAPPED:
            return ("swap_databases",)
        case Phase.NOT_YET | None:
            return ()


def _live(before: Before, phase: Phase | None) -> str:
    database, broken = before.place.database, aside.name_broken(before.upgrade)
    match phase:
        case Phase.NOT_YET:
            return f"{database} is still the database of the upgrade"
        case Phase.SWAPPED | Phase.IN_PLACE | Phase.SETTLED:
            return f"{database} is the previous database, and that of the upgrade is kept as {broken}"
        case None:
            return (
                f"The server did not answer: {database} is the previous database if it has {broken}, and else that "
                "of the upgrade"
            )


def _service(before: Before, steps: Steps) -> str:
    service = before.place.service
    if STARTS_ODOO in steps.ended or "start_odoo_again" in steps.ended:
        return f"{service} was started"
    stopped = STOPS_ODOO in steps.ended and not {STARTS_ODOO, "start_odoo_again"}.intersection(steps.begun)
    return f"{service} is stopped" if stopped else f"{service} may be stopped"
