"""The runbook `odoo_db_restore`: a backup into a new database, never over one that is there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from flows.backup.attachments import differing_attachments, stored
from flows.backup.contents import summary
from flows.backup.folder import Folder, backup_folder
from flows.backup.keyring import Signature
from flows.backup.manifest import File, Manifest
from flows.backup.names import parse_name
from flows.backup.parameters import (
    NO_ROLES,
    BackupFolder,
    BackupOrDatabase,
    OdooDatabase,
    OptionalFolder,
    OptionalTarget,
    RolesInstead,
    TemplateDatabase,
)
from flows.backup.postgres import Connection, connect
from flows.backup.repository import Backup
from flows.engine.active_run import current_run
from flows.engine.runbook import runbook
from flows.engine.step import action
from flows.restore.filestore import FILESTORE_SECONDS, Unpacked, check_new_folder, unpacked
from flows.restore.load import ANALYZE_SECONDS
from flows.restore.loader import is_superuser
from flows.restore.properties import foresee, with_roles
from flows.restore.ready import Ready, look_up, warn_of_lost
from flows.restore.restore import DEADLINE_SECONDS, names_in, proof, restored
from flows.restore.roles import choose_roles, owners_in, read_roles
from flows.restore.scratch import Scratch
from flows.restore.told import restore_facts
from opsdb.errors import PreflightError, StepFailedError


@runbook(
    deadline_seconds=DEADLINE_SECONDS + ANALYZE_SECONDS + FILESTORE_SECONDS,
    exclusive="odoo_db",
    explain=restore_facts,
    subject="${params.odoo_db} · restore of ${params.backup}",
)
def odoo_db_restore(
    odoo_db: OdooDatabase,
    backup: BackupOrDatabase,
    backup_dir: BackupFolder = "",
    filestore_dir: OptionalFolder = "",
    target: OptionalTarget = "",
    *,
    template: TemplateDatabase = "",
    unsigned: bool = False,
    roles: RolesInstead = NO_ROLES,
    missing_roles: Literal["refuse", "leave"] = "refuse",
) -> dict[str, Any]:
    """Restore a backup into a new database, compare it with what was dumped, and only then give it its name.

    **When to use it:** to bring back what was lost, or for a copy to test with. Never over a database that exists:
    restore to a new name, look at it, and switch over yourself.

    **What it changes:** it makes one new database, with the owner, privileges and settings of then as far as the room's
    role may give them. What it cannot give is named before the restore begins, and in the result.

    **What it needs:** a backup that is signed by this room, PostgreSQL's programs, and room on the disk.

    ```
    ops backups odoo_prod
    ops run odoo_db_restore -p odoo_db=odoo_test -p backup=odoo_prod_20261125T231116Z.dump --wait
    ```

    Args:
        odoo_db: Name of the new database, which must not exist yet.
        backup: File name of the backup, as the command ops backups lists it, or a database, whose newest good backup is
            restored.
        backup_dir: Absolute path of the folder with the backups. Empty for the room's own.
        filestore_dir: Absolute path of a new folder for the backup's filestore. Empty to leave the filestore packed.
        target: Backup Target block to fetch the backup from when the folder does not have it. Empty for none.
        template: Database to begin with, which a superuser has prepared with extensions and nothing else. Empty for
            PostgreSQL's own.
        unsigned: Restore a backup that neither this room signed nor one whose key was imported. Whoever made it can run
            commands in the restored database, which will belong to a new role, NAME_owner.
        roles: Other roles for those of the backup, such as {"odoo": "odoo_test"}. Empty for roles of the same names.
        missing_roles: What to do when the server lacks a role of the backup: refuse the restore, or leave what that
            role owned to the room's role and drop its privileges.
    """
    started = time.monotonic()
    folder = backup_folder(backup_dir)
    attachments = Path(filestore_dir) if filestore_dir else None
    ready = action(
        "preflight",
        lambda: _warned(
            _with_roles(
                _look_up(
                    folder,
                    backup,
                    odoo_db,
                    attachments,
                    target=target or None,
                    unsigned=unsigned,
                    template=template or None,
                ),
                roles,
                leave_missing=missing_roles == "leave",
                owner=f"{odoo_db}_owner",
            ),
            attachments,
        ),
        about=f"check that there is no database {odoo_db}; find {backup} in {folder.path}; "
        "check programs, roles and disk",
        preflight=True,
    )
    with (
        restored(ready) as done,
        unpacked(done.files, ready.backup.name, attachments) as files,
    ):
        if attachments is not None and ready.manifest.attachments is not None:
            action(
                "unpacked attachments",
                lambda: _compare_unpacked(ready.manifest, done.scratch, files),
                about="read every unpacked file that ir_attachment names, and compare its SHA-1",
                must_run_again=True,
            )
        refused = action(
            "publish",
            lambda: _publish(done.scratch, odoo_db, files, ready),
            about=f"rename {done.scratch.name} to {odoo_db}, and give it its owner, privileges and settings",
        )
    not_restored = [*done.handed.refused, *(refused or []), *(f"{name} of the filestore" for name in files.left_out)]
    if not_restored:
        current_run().event(f"not restored: {summary(not_restored)}", level="warning")
    packed = ready.manifest.filestore
    if packed is not None and attachments is None and packed.file not in done.missing:
        not_restored.append(_left_packed(packed))
    return proof(ready, done) | {
        "database": odoo_db,
        "not_restored": not_restored,
        "filestore": str(attachments) if attachments else None,
        "duration_seconds": round(time.monotonic() - started, 3),
    }


def _publish(scratch: Scratch, database: str, files: Unpacked, ready: Ready) -> list[str]:
    files.keep()
    try:
        return scratch.keep_as(database, ready.properties, owner=ready.owner)
    except BaseException:
        files.take_back()
        raise


def _compare_unpacked(manifest: Manifest, scratch: Scratch, files: Unpacked) -> None:
    if manifest.attachments is None or files.partial is None:
        return
    names = names_in(scratch)
    if wrong := differing_attachments(manifest.attachments, names, stored(files.partial, names)):
        raise StepFailedError(f"the filestore was not unpacked as it was: {summary(wrong)}")


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
    """Nothing vouches for the backup: it belongs to a role of its own. Whose its things were, may have been made up."""
    if instead:
        raise PreflightError(
            "roles: a backup that is not trusted gives nothing to other roles. Hint: leave roles empty"
        )
    if not is_superuser(server):
        return ready
    if server.execute("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", (owner,)).fetchone():
        raise PreflightError(
            f"there is a role {owner} already, and what nothing vouches for is to belong to a new one of that name. "
            "Hint: choose another odoo_db, or drop that role"
        )
    told = (
        f"nothing vouches for the backup: all of it will belong to a new role {owner}, without privileges and settings"
    )
    current_run().event(told, level="warning")
    return replace(ready, owner=owner)


def _look_up(
    folder: Folder,
    backup: str,
    database: str,
    attachments: Path | None,
    *,
    target: str | None,
    unsigned: bool,
    template: str | None,
) -> Ready:
    with connect(current_run().settings.odoo_url) as server:
        if server.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", (database,)).fetchone():
            raise PreflightError(f"there is a database {database} already, and it is not touched: choose a new name")
    if (name := parse_name(backup)) is not None:
        ready = look_up(folder, name.database, backup, target, drill=False, template=template)
    elif backup.endswith(".dump"):
        raise PreflightError(f"{backup} is not the name of a backup. Hint: `ops backups` lists them")
    else:  # a database
        ready = look_up(folder, backup, None, target, drill=False, template=template)
        current_run().event(f"restores {ready.backup.name.dump}, the newest good backup of {backup}")
    if not unsigned and (refusal := _refusal(ready.backup) or ready.weakness):
        raise PreflightError(refusal)
    if attachments is not None:
        check_new_folder(ready.backup, ready.manifest, attachments)
        ready = replace(ready, needed=(ready.backup.name.filestore,))
    return ready


def _warned(ready: Ready, attachments: Path | None) -> Ready:
    """Say what is not restored, once nothing refuses the rest any more."""
    warn_of_lost(ready)
    files = ready.manifest.filestore
    if attachments is None and files is not None and files.file not in ready.backup.lost:
        current_run().event(f"not restored: {_left_packed(files)}", level="warning")
    return ready


def _left_packed(files: File) -> str:
    return f"the filestore ({files.note}) stays packed. Hint: filestore_dir=FOLDER unpacks it"


def _refusal(backup: Backup) -> str | None:
    """Why nothing vouches for the backup."""
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
