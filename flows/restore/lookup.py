"""The backup that a restore is asked for, found and judged, with the roles that its things will belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from flows.backup.contents import summary
from flows.backup.folder import Folder
from flows.backup.keyring import Signature, room_keyring
from flows.backup.manifest import File, Manifest
from flows.backup.names import parse_name
from flows.backup.postgres import Connection, connect
from flows.backup.repository import Backup
from flows.engine.active_run import current_run
from flows.offsite.target import Target, load_target
from flows.restore.filestore import check_new_folder
from flows.restore.loader import is_superuser
from flows.restore.properties import foresee, with_roles
from flows.restore.ready import Ready, check_restorable, find_backup, restorable_manifest, warn_of_lost
from flows.restore.roles import choose_roles, owners_in, read_roles
from opsdb.errors import PreflightError


@dataclass(frozen=True, slots=True)
class Found:
    """A backup that was asked for, with a manifest, before anything else of its restore is judged."""

    backup: Backup
    manifest: Manifest
    folder: Folder
    target: Target | None = None
    """Where the backup is, when the folder has not got it."""
    newest_of: str = ""
    """The database that was named in place of a file."""
    planned: bool = False
    """Whether this is a dry run, of a run that makes it first."""


def find_copy(folder: Folder, backup: str, *, target: str) -> Found:
    """Find a backup, a file's name or a database's, without an event. `target` is empty for none.

    Raises PreflightError.
    """
    name = parse_name(backup)
    if name is None and backup.endswith(".dump"):
        raise PreflightError(f"{backup} is not the name of a backup. Hint: `ops backups` lists them")
    place = load_target(target, room_keyring(current_run().settings)) if target else None
    found = find_backup(folder, name.database if name else backup, backup if name else None, place)
    elsewhere = None if found.repository is folder else place
    return Found(found, restorable_manifest(found), folder, elsewhere, newest_of="" if name else backup)


def check_copy(
    found: Found,
    *,
    attachments: Path | None,
    template: str,
    unsigned: bool,
    roles: Mapping[str, str],
    missing_roles: Literal["refuse", "leave"],
    owner: str,
    replaces: bool = False,
    rewritten_bytes: int = 0,
) -> Ready:
    """Check all that a database out of a backup needs.

    Empty texts stand for what was not given. `owner` is the new role that gets untrusted objects; `replaces`
    says that the folder for the filestore may be there; `rewritten_bytes` are those that a change writes again. What
    will not be restored is an event each. Changes nothing. Raises PreflightError.
    """
    ready = _check(found, unsigned=unsigned, template=template or None, rewritten_bytes=rewritten_bytes)
    if attachments is not None:
        check_new_folder(ready.backup, ready.manifest, attachments, replaces=replaces)
        ready = replace(ready, needed=(ready.backup.name.filestore,))
    if found.planned:  # its roles are those of a database on this server
        return ready
    ready = _with_roles(ready, roles, leave_missing=missing_roles == "leave", owner=owner)
    warn_of_lost(ready)
    files = ready.manifest.filestore
    if attachments is None and files is not None and files.file not in ready.backup.lost:
        current_run().event(f"not restored: {left_packed(files)}", level="warning")
    return ready


def left_packed(files: File) -> str:
    """A phrase for a filestore that is not unpacked."""
    return f"the filestore ({files.note}) stays packed. Hint: filestore_dir=FOLDER unpacks it"


def _with_roles(ready: Ready, instead: Mapping[str, str], *, leave_missing: bool, owner: str) -> Ready:
    """Choose the roles, and say what cannot be brought back, before anything begins. Raises PreflightError."""
    run = current_run()
    with connect(run.settings.odoo_url) as server:
        if not ready.trusted:
            return _of_nobody(server, ready, instead, owner)
        roles = choose_roles(
            server,
            ready.manifest,
            instead=instead,
            leave_missing=leave_missing,
            roles_sql=read_roles(ready.backup),
        )
        properties = ready.manifest.properties
        if properties is None:
            run.event("owner and settings of the database are not restored: not recorded", level="warning")
            return replace(ready, roles=roles)
        properties = with_roles(properties, roles, owner=server.info.user)
        if foreseen := foresee(server, properties, owners=owners_in(ready.manifest, roles)):
            run.event(f"the room's role cannot restore: {summary(foreseen)}", level="warning", properties=foreseen)
    return replace(ready, roles=roles, properties=properties)


def _of_nobody(server: Connection, ready: Ready, instead: Mapping[str, str], owner: str) -> Ready:
    """The backup is not trusted: it belongs to a role of its own. Whose its things were, may have been made up."""
    if instead:
        raise PreflightError(
            "roles: a backup that is not trusted gives nothing to other roles. Hint: leave roles empty"
        )
    if not is_superuser(server):
        return ready
    if server.execute("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", (owner,)).fetchone():
        raise PreflightError(
            f"there is a role {owner} already, and untrusted objects are to belong to a new one of that name. "
            "Hint: choose another odoo_db, or drop that role"
        )
    told = f"the backup is not trusted: all of it will belong to a new role {owner}, without privileges and settings"
    current_run().event(told, level="warning")
    return replace(ready, owner=owner)


def _check(found: Found, *, unsigned: bool, template: str | None, rewritten_bytes: int) -> Ready:
    ready = check_restorable(
        found.backup,
        found.folder,
        found.target,
        drill=False,
        template=template,
        planned=found.planned,
        rewritten_bytes=rewritten_bytes,
    )
    if found.newest_of:
        current_run().event(f"restores {found.backup.name.dump}, the newest good backup of {found.newest_of}")
    if not unsigned and not found.planned and (refusal := _refusal(ready.backup) or ready.weakness):
        raise PreflightError(refusal)
    return ready


def _refusal(backup: Backup) -> str | None:
    """Why the backup is not trusted."""
    if backup.signed:
        return None
    if backup.signature is Signature.UNKNOWN_KEY:
        return (
            f"{backup.name.dump} was signed by another room. Hint: import that room's key with "
            "`ops backups key import`, or restore it with unsigned=true if you trust who made it"
        )
    return (
        f"{backup.name.dump} is unsigned: anybody may have made it. Hint: `ops backups sign` signs the backups in the "
        "folder after a check of their sums; or restore it with unsigned=true if you trust who made it"
    )
