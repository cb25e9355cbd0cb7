"""`ops rollback`: start a run that takes back what an upgrade did."""

from __future__ import annotations

from cli.run.start import start_run
from opsdb.errors import UsageError
from opsdb.runs.lookup import find_run, read_run, reading, short_id
from opsdb.settings import Settings

UPGRADE = "odoo_module_upgrade"
ROLLBACK = "odoo_upgrade_rollback"


def rollback_run(settings: Settings, *, run: str, yes: bool, wait: bool, dry_run: bool, as_json: bool) -> None:
    """Start a rollback of the upgrade in its lane, with its priority, as `ops run` starts a run.

    Raises UsageError where the run upgraded nothing or is not over, and otherwise as `start_run`.
    """
    with reading(settings) as db:
        details = read_run(db, find_run(db, run))
    if details is None:
        raise UsageError(f"run {run!r} was just deleted from the ops database")
    was, name = details.view.run, short_id(details.view.run.id)
    if was.kind != UPGRADE:
        raise UsageError(f"run {name} is a run of {was.kind}: only runs of {UPGRADE} can be taken back")
    if not was.status.terminal and not details.view.waits_for_approval:
        raise UsageError(f"run {name} {was.status.told} and is not over: `ops cancel {name} --wait` ends it")
    start_run(
        settings,
        kind=ROLLBACK,
        assignments=[f"odoo_db={was.params['odoo_db']}", f"upgrade={was.id}", f"ask={str(not yes).lower()}"],
        lane=was.lane,
        priority=was.priority,
        session=None,
        idempotency_key=None,
        wait=wait,
        dry_run=dry_run,
        as_json=as_json,
    )
