"""Odoo's filestore in a backup: found and measured before, written into an archive, and held against its rows."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from flows.backup.attachments import Attachments, archived, find_faults, shown_names
from flows.backup.draft import Draft
from flows.backup.manifest import File, Manifest
from flows.engine.active_run import current_run
from flows.engine.step import action, step
from opsdb.errors import PreflightError, StepFailedError
from opsdb.places import refuse_filestore
from opsdb.settings import Settings

FILESTORE_SECONDS = 3600
ATTACHMENTS_SECONDS = 1800
COUNT_SECONDS = 30

# Odoo names each file by the hash of its content and never changes it, so that only new and deleted ones can differ
# from the moment of the dump: that is tar's exit code 1.
FILESTORE = """\
umask 077
cd -- "$FILESTORE"
[ "$(pwd -P)" = "$FILESTORE" ] || {
  echo "$FILESTORE became a link meanwhile: it is not followed" >&2
  exit 65
}
{ tar --create --file=- --format=gnu --sort=name --numeric-owner . || [ "$?" -eq 1 ]; } \\
  | gzip --fast --no-name \\
  | tee --output-error=exit -- "$ARCHIVE" \\
  | sha256sum
sync -- "$ARCHIVE"
stat --dereference --format='bytes: %s' -- "$ARCHIVE"
dd if="$ARCHIVE" iflag=nocache count=0 status=none
echo "files: $(gzip --decompress --stdout -- "$ARCHIVE" | tar --list --file=- | grep -vc '/$' || true)"
"""


def check_filestore(settings: Settings, database: str) -> Path | None:
    """The folder with the attachments of this database, where filestores are configured. Raises PreflightError."""
    if settings.filestore_dir is None:
        return None
    folder = settings.filestore_dir / database
    if not folder.is_dir():
        raise PreflightError(
            f"there is no filestore {folder} (OPS_FILESTORE_DIR): correct the setting, or make the folder if "
            f"{database} has no attachments"
        )
    if refusal := refuse_filestore(folder, settings):
        raise PreflightError(refusal)
    return folder.resolve()


def estimate_filestore(folder: Path | None, earlier: list[Manifest]) -> int:
    """What the filestore's archive may need, in bytes: its files, or half more than the last one if that is less.

    Counts for COUNT_SECONDS at most. Warns of files not counted by then where there is no earlier archive.
    """
    if folder is None:
        return 0
    archives = [one.filestore for one in earlier if one.filestore]
    enough = archives[-1].size_bytes * 3 // 2 if archives else None
    counted, until = 0, time.monotonic() + COUNT_SECONDS
    for path in (Path(parent, name) for parent, _, names in os.walk(folder) for name in names):
        if enough is not None and counted >= enough:
            return enough
        if time.monotonic() > until:
            if enough is None:
                told = (
                    f"{folder} has more files than can be counted in {COUNT_SECONDS} s: its archive may need more room"
                )
                current_run().event(told, level="warning", counted_bytes=counted)
            return enough or counted
        with suppress(OSError):  # Odoo deletes files
            counted += path.lstat().st_size
    return counted if enough is None else min(counted, enough)


def write_filestore(folder: Path | None, draft: Draft) -> File | None:
    """After the dump, so that every attachment of the dump is in it."""
    if folder is None:
        return None
    env = {"FILESTORE": str(folder), "ARCHIVE": draft.path(draft.name.filestore)}
    output = step("filestore", FILESTORE, timeout=FILESTORE_SECONDS, env=env)
    return File(
        file=draft.name.filestore,
        size_bytes=output.number("bytes"),
        sha256=output.sha256,
        note=f"{output.number('files')} files",
    )


def check_attachments(folder: Path | None, draft: Draft, names: set[str] | None) -> Attachments | None:
    """Which of the attachments that rows name are in the archive. One that only the filestore has fails the run."""
    if folder is None:
        return None
    return action(
        "attachments",
        lambda: None if names is None else _check_attachments(folder, draft, names),
        about="look for every file that ir_attachment names in the archive, and compare its SHA-1",
        must_run_again=True,  # with the archive
    )


def _check_attachments(folder: Path, draft: Draft, names: set[str]) -> Attachments:
    faults = find_faults(names, archived(draft.path(draft.name.filestore)))
    if passed_over := [name for name in faults.lost if (folder / name).exists()]:
        raise StepFailedError(
            f"{len(passed_over)} attachments are in {folder} and not in its archive: "
            f"{shown_names(passed_over)}. Links are not followed: put the files themselves there"
        )
    for names_of, what in ((faults.lost, "are not in the filestore"), (faults.damaged, "are damaged there")):
        if names_of:
            message = f"{len(names_of)} of {len(names)} attachments {what}: {shown_names(names_of)}"
            current_run().event(message, level="warning")
    return faults.recorded(len(names))
