"""Whether a restored database is published neutralised, as it is, or as production: said before anything begins."""

from __future__ import annotations

from dataclasses import dataclass

from flows.copies.original import same_odoo
from flows.copies.own_rules import OwnRules
from flows.engine.active_run import current_run
from flows.engine.step import action
from flows.restore.ready import Ready

_PRODUCTION = "as production, not neutralised: its jobs, mail and payments run as soon as an Odoo serves it"
_NEUTRALISED = "neutralised: without jobs, mail and payments, with a database.uuid of its own"


@dataclass(frozen=True, slots=True)
class Choice:
    """How a database is published."""

    how: str
    """In words, behind `will be published`."""
    as_production: bool
    """Without a neutralisation, though it is an Odoo's or may be one."""


def choose(*, odoo: bool | None, as_production: bool) -> Choice:
    """How the backup of an Odoo, of something else, or of nobody knows what, becomes a database."""
    if odoo is False:
        return Choice("as it is: the backup is not an Odoo's", as_production=False)
    if as_production:
        return Choice(_PRODUCTION, as_production=True)
    return Choice(_NEUTRALISED if odoo else f"{_NEUTRALISED}, if it is an Odoo's", as_production=False)


def ask_production(ready: Ready, database: str) -> str | None:
    """What a person is to approve before a database of this name is published as production.

    None where its original is not on the server. Raises PreflightError.
    """
    same = same_odoo(ready, current_run().settings.odoo_url)
    if same == []:
        return None
    because = (
        f"{', '.join(same)} has the same database.uuid and is on this server"
        if same
        else "the room could not find out whether its original is on this server"
    )
    return f"publish {database} as production? {because}: both would do the same work twice"


def say(choice: Choice, database: str, own: OwnRules, *, source: str = "") -> None:
    """Record the choice as a step and the first event of the current run.

    It names the team's own files for it, and the `source`, where that is not a backup which is there.
    """
    followed = f", as {' and '.join(sorted(own.files))} say" if own.files else ""
    told = f"{database} will be published {choice.how}{followed}{f'; {source}' if source else ''}"
    level = "warning" if choice.as_production else "info"
    action("choose", lambda: current_run().event(told, level=level), about=told, preflight=True)
