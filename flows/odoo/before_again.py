"""The database and filestore from before an upgrade, restored from its backup beside the live ones."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from flows.backup.contents import summary
from flows.backup.folder import backup_folder
from flows.backup.postgres import connect
from flows.engine.active_run import current_run
from flows.engine.step import action
from flows.odoo import aside
from flows.odoo.before import Before
from flows.restore.filestore import Unpacked, check_new_folder, compare_unpacked, unpacked
from flows.restore.properties import foresee, with_roles
from flows.restore.ready import Ready, look_up
from flows.restore.restore import Restored, restored
from flows.restore.roles import choose_roles, owners_in, read_roles
from flows.restore.server import check_free
from opsdb.errors import PreflightError


def check_backup_of(before: Before, filestores: Path | None) -> Ready:
    """Find the backup from before an upgrade, and check all that its restore needs. Raises PreflightError."""
    run, kept, database = current_run(), before.protection, before.place.database
    if kept is None:
        raise PreflightError(f"nothing of {database} was kept")
    ready = look_up(backup_folder(kept.backup_dir), database, kept.backup, None, drill=False)
    wanted = ready.manifest.properties
    if not ready.trusted or wanted is None or ready.manifest.contents is None:
        found = ready.weakness or "its manifest is not one that this room signed"
        raise PreflightError(f"{kept.backup} cannot take the place of {database}: {found}")
    if filestores is not None:
        target = filestores / aside.name_before(before.upgrade)
        if os.path.lexists(target):  # of a rollback that was killed before it had the database: it is made again
            target = target.with_name(f"{target.name}_")
        check_new_folder(ready.backup, ready.manifest, target)
        ready = replace(ready, needed=(ready.backup.name.filestore,))
    with connect(run.settings.odoo_url) as server:
        if filestores is not None and ready.manifest.filestore is not None:  # on one disk both need room
            needed = ready.manifest.database_bytes or 4 * ready.manifest.size_bytes
            check_free(server, needed_bytes=needed, beside=[(filestores, ready.manifest.filestore.size_bytes)])
        roles = choose_roles(
            server, ready.manifest, instead={}, leave_missing=False, roles_sql=read_roles(ready.backup)
        )
        properties = with_roles(wanted, roles, owner=server.info.user)
        if refused := foresee(server, properties, owners=owners_in(ready.manifest, roles)):
            run.event(f"the room's role cannot restore: {summary(refused)}", level="warning", properties=refused)
    comment = aside.comment_before(database, before.upgrade)
    return replace(ready, roles=roles, properties=aside.properties_aside(properties, comment))


def restore_before(before: Before, ready: Ready, filestores: Path | None) -> list[str]:
    """Restore it, compare it with its manifest, and set it aside, as steps of the current run.

    The database gets its name last: where it is there, the filestore beside it is whole. Returns phrases for what could
    not be given back. Raises StepError; then nothing of it is left.
    """
    name = aside.name_before(before.upgrade)
    target = filestores / name if filestores else None
    if target is not None:
        action(
            "leftovers of filestore", lambda: aside.remove_filestore(target), about=f"remove {target}, if it is there"
        )
    partial = f".{name}.partial"
    with restored(ready) as done, unpacked(done.files, ready.backup.name, target, partial=partial) as files:
        if target is not None:
            action(
                "unpacked attachments",
                lambda: compare_unpacked(ready.manifest, done.named, files),
                about="read every unpacked file that ir_attachment names, and compare its SHA-1",
                must_run_again=True,
            )
        refused = action(
            "set aside",
            lambda: _set_aside(ready, done, files, name),
            about=f"rename {done.scratch.name} to {name}, a template, with the owner, privileges and settings it had",
        )
    not_restored = [*done.handed.refused, *(refused or []), *(f"{one} of the filestore" for one in files.left_out)]
    if not_restored:
        current_run().event(f"not restored: {summary(not_restored)}", level="warning", not_restored=not_restored)
    return not_restored


def _set_aside(ready: Ready, done: Restored, files: Unpacked, name: str) -> list[str]:
    files.keep()
    try:
        return done.scratch.keep_as(name, ready.properties)
    except BaseException:
        files.take_back()
        raise
