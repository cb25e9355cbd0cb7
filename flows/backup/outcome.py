"""What a backup leads to once it is published: its place in the record, and an end for those that are too old."""

from __future__ import annotations

from pathlib import Path

from flows.backup.draft import Draft
from flows.backup.files import list_backups, remove
from flows.backup.manifest import Manifest
from flows.backup.retention import KEPT_AT_LEAST, prunable
from flows.engine.active_run import current_run
from opsdb.errors import StepFailedError


def record_files(folder: Path, done: Draft, manifest: Manifest) -> None:
    """Register the files of a backup as artifacts of the current run."""
    run = current_run()
    run.artifact(
        kind="file",
        name=done.dump.name,
        storage_path=str(done.dump),
        size_bytes=manifest.size_bytes,
        sha256=manifest.sha256,
        mime_type="application/octet-stream",
    )
    for other in manifest.companions:
        run.artifact(
            kind="file",
            name=other.file,
            storage_path=str(folder / other.file),
            size_bytes=other.size_bytes,
            sha256=other.sha256,
        )
    run.artifact(
        kind="file",
        name=done.manifest.name,
        storage_path=str(done.manifest),
        size_bytes=len(manifest.text().encode()),
        mime_type="application/json",
    )


def prune_folder(folder: Path, newest: Manifest, retention_days: int) -> list[str]:
    """Delete what is too old as seen from the new backup: its time is the only clock that is read.

    Returns the names of the dumps. Raises StepFailedError.
    """
    backups = list_backups(folder, newest.database)
    old = prunable(backups, now=newest.created_at, retention_days=retention_days, keep_at_least=KEPT_AT_LEAST)
    for backup in old:
        try:
            remove(backup)
        except OSError as error:
            raise StepFailedError(
                f"the new backup {newest.file} is good, but {backup.path} could not be deleted: {error.strerror}"
            ) from error
    return [backup.name.dump for backup in old]
