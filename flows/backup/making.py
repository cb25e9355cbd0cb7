"""One backup from its preflight until it is registered, for every runbook that makes one."""

from __future__ import annotations

from dataclasses import replace

from flows.backup.database import Database, Source, check_source
from flows.backup.draft import Draft, clear_leftovers, leftover_bytes
from flows.backup.dump import write_backup
from flows.backup.folder import Folder, check_space
from flows.backup.keyring import Keyring
from flows.backup.repository import Backup
from flows.engine.active_run import current_run
from flows.engine.preflight import PROGRAMS, missing_programs
from flows.engine.step import action
from opsdb.errors import PreflightError


def check_backup(database: Database, folder: Folder, keyring: Keyring) -> Source:
    """Look at all that a backup needs before anything changes: programs, rows, room. Raises PreflightError."""
    keyring.own()
    if missing := missing_programs(*PROGRAMS["odoo_db_backup"]):
        raise PreflightError(f"not on the PATH: {', '.join(missing)}. Install coreutils and grep")
    source = check_source(database, current_run().settings)
    there = folder.check()
    freed = leftover_bytes(there, database.name) if there == folder.path else 0
    earlier = folder.backups(database.name)
    needed = source.needed_bytes(earlier, folder.path)
    check_space(there, needed, freed_bytes=freed)
    last = next((one.manifest for one in reversed(earlier) if one.verified), None)
    return replace(source, last=last, needed=needed)


def make_backup(source: Source, folder: Folder, keyring: Keyring) -> Backup:
    """Write a backup, read it back and publish it, as steps of the current run; it deletes no older one.

    Its manifest is there. Raises StepError; then nothing of it is left.
    """
    database = source.database.name
    with Draft(folder.path, database, clock=source.clock) as draft:
        action(
            "reserve",
            lambda: _reserve(draft, folder, keyring),
            about=f"remove what killed runs left of {database} in {folder.path}, and reserve the backup's name",
            must_run_again=True,  # it ends with its process
        )
        manifest = write_backup(source, draft)
        manifest_bytes = action(
            "publish",
            lambda: draft.publish(manifest, keyring.make_own()),
            about=f"ln {draft.partial(manifest.file)} {draft.dump}, after its manifest",
        )
    backup = folder.written(draft.name, manifest, manifest_bytes=manifest_bytes or 0)
    _record_files(backup)
    return backup


def _reserve(draft: Draft, folder: Folder, keyring: Keyring) -> None:
    folder.prepare()
    keyring.make_own()
    if leftovers := clear_leftovers(folder.path, draft.name.database):
        current_run().event("removed what killed backups left", level="warning", files=leftovers)
    draft.reserve()


def _record_files(backup: Backup) -> None:
    """Register the files of the backup as artifacts of the current run."""
    run = current_run()
    for one in backup.manifest.files if backup.manifest else ():
        run.artifact(
            kind="file",
            name=one.file,
            storage_path=backup.repository.url(one.file),
            size_bytes=one.size_bytes,
            sha256=one.sha256,
            mime_type="application/octet-stream",
        )
    manifest = backup.name.manifest
    run.artifact(
        kind="file",
        name=manifest,
        storage_path=backup.repository.url(manifest),
        size_bytes=backup.sizes[manifest],
        mime_type="application/json",
    )
