"""An upgrade that can be taken back: what of it was taken back already, and whether all is there for the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from flows.backup.odoo_databases import find_odoo_databases
from flows.backup.postgres import Connection, connect
from flows.engine.active_run import current_run
from flows.engine.preflight import PROGRAMS, missing_programs
from flows.odoo import aside
from flows.odoo.before import Before, Place
from flows.odoo.before_again import check_backup_of
from flows.odoo.site import check_checkout
from flows.restore.ready import Ready
from flows.restore.server import check_may_create
from opsdb.errors import PreflightError
from opsdb.places import refuse_entry
from opsdb.runs.lookup import short_id

_SHOWN = 6  # databases in one sentence
_SET_ASIDE = r"""
SELECT datname, pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database
WHERE datname LIKE 'ops\_broken\_%'
"""


class Phase(StrEnum):
    """How far an upgrade was taken back by earlier rollbacks."""

    NOT_YET = "not yet"
    SWAPPED = "swapped"
    """The previous database has its place, and nobody works with it yet."""
    IN_PLACE = "in place"
    """So have the filestore and the code: nothing is undone any more."""
    SETTLED = "settled"
    """The checkout no longer names another commit as the previous one, and Odoo may run."""

    @property
    def is_in_place(self) -> bool:
        """Whether all of the previous state is in its place, so that nothing is undone any more."""
        return self in (Phase.IN_PLACE, Phase.SETTLED)


@dataclass(frozen=True, slots=True)
class TakeBack:
    """An upgrade that can be taken back: all that it needs was looked at."""

    before: Before
    phase: Phase
    ready: Ready | None = None
    """The backup to restore; None where the previous database is on the server, or is the live one."""
    filestores: Path | None = None
    """The folder of the filestores, where the previous one was kept."""
    beneath: str = ""
    """A sentence about other databases, whose Odoo may run from the same checkout."""


def check_take_back(before: Before) -> TakeBack:
    """Look at all that a rollback needs. Changes nothing. Raises PreflightError that says what is missing.

    That the code goes back beneath other databases is an event, for whoever is not asked.
    """
    found = _check(before)
    if found.phase.is_in_place:
        return found
    if beneath := _tell_beneath(before.place):
        current_run().event(beneath, level="warning")
    return replace(found, beneath=beneath)


def _tell_beneath(place: Place) -> str:
    """The room knows which databases of the server have Odoo's modules, and not which of them an Odoo serves."""
    found = find_odoo_databases(current_run().settings.odoo_url)
    gets = f"one that Odoo serves from {place.repo_dir} gets the previous code as well, and is not taken back itself"
    if found is None:
        return f"the server did not say in time which other databases have Odoo's modules: {gets}"
    others = [name for name in found if name != place.database]
    shown = ", ".join(others[:_SHOWN]) + (f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else "")
    return f"other databases of the server have Odoo's modules, {shown}: {gets}" if others else ""


def _check(before: Before) -> TakeBack:
    place, kept, url = before.place, before.protection, current_run().settings.odoo_url
    programs = ("bash", "ssh") if place.ssh_destination else PROGRAMS["odoo_upgrade_rollback"]
    if missing := missing_programs(*programs):
        raise PreflightError(f"not on the PATH: {', '.join(missing)}")
    check_checkout(place.host)
    if not before.begun:
        return TakeBack(before, Phase.NOT_YET)
    if kept is None:
        raise PreflightError(
            f"run {short_id(before.upgrade)} protected nothing (protect=none): its database cannot be taken back. "
            f"Hint: `ops backups {place.database}` lists what odoo_db_restore can restore"
        )
    filestores = _check_filestores() if kept.filestore else None
    with aside.connect_beside(url, place.database) as server:
        _check_may_rename(server, place.database)
        phase = phase_of(server, before)
        there = aside.find_aside(server, aside.name_before(before.upgrade)) == aside.comment_before(
            place.database, before.upgrade
        )
    if there and filestores and not (filestores / aside.name_before(before.upgrade)).is_dir():
        raise PreflightError(
            f"{filestores / aside.name_before(before.upgrade)} is gone: somebody removed the previous filestore. "
            f"Hint: `ops backups {place.database}` lists what odoo_db_restore can restore"
        )
    if there or phase is not Phase.NOT_YET:
        return TakeBack(before, phase, None, filestores)
    if kept.protect == "copy":
        raise PreflightError(
            f"the copy {aside.name_before(before.upgrade)} is gone: somebody dropped it. Hint: `ops backups "
            f"{place.database}` lists what odoo_db_restore can restore"
        )
    return TakeBack(before, phase, check_backup_of(before, filestores), filestores)


def comment_of(before: Before, phase: Phase) -> str:
    """That of a database that was set aside: by its last words, how far the rollback is."""
    return _comment(before.place.database, before.upgrade, phase)


def refuse_in_the_middle(database: str, *, url: str) -> None:
    """Raise PreflightError while a rollback of the database stands in the middle: its files and code may be others."""
    with connect(url) as server:
        rows = server.execute(_SET_ASIDE).fetchall()
    for name, comment in rows:
        upgrade = aside.upgrade_of_broken(str(name))
        if upgrade and comment in [_comment(database, upgrade, phase) for phase in (Phase.SWAPPED, Phase.IN_PLACE)]:
            again = short_id(upgrade)
            raise PreflightError(
                f"run {again} is being taken back, and that did not end: {database} is the database from before it, "
                f"and its filestore and code may not be. Hint: `ops rollback {again}` resumes from there"
            )


def _comment(database: str, upgrade: UUID, phase: Phase) -> str:
    return f"{database} as the Ops Control Room's run {upgrade} left it; taken back: {phase}"


def phase_of(server: Connection, before: Before) -> Phase:
    """How far an upgrade was taken back, by the database that was set aside."""
    name = aside.name_broken(before.upgrade)
    if not aside.exists(server, name):
        return Phase.NOT_YET
    comment = aside.find_aside(server, name)
    later = (Phase.IN_PLACE, Phase.SETTLED)
    return next((phase for phase in later if comment == comment_of(before, phase)), Phase.SWAPPED)


def _check_filestores() -> Path:
    folder = current_run().settings.filestore_dir
    if folder is None:
        raise PreflightError(
            "the previous filestore is kept, and nothing says where it belongs. Hint: set OPS_FILESTORE_DIR as it was"
        )
    if refusal := refuse_entry(folder, write=True):
        raise PreflightError(f"the filestores in {folder} cannot be renamed: {refusal}")
    return folder


def _check_may_rename(server: Connection, database: str) -> None:
    """The room may rename the database, and make the one that takes its place."""
    check_may_create(server)
    row = server.execute(
        "SELECT pg_catalog.pg_has_role(datdba, 'MEMBER') FROM pg_catalog.pg_database WHERE datname = %s", (database,)
    ).fetchone()
    if row is not None and not row[0]:
        raise PreflightError(
            f"role {server.info.user!r} may not rename {database}: it is not a member of the database's owner. "
            f"Hint: GRANT that role to {server.info.user}"
        )
