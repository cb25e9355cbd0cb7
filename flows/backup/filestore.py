"""Odoo's filestore in a backup: looked through before, written into an archive, and held against its rows."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from flows.backup.attachments import Attachments, archived, find_faults, shown_names
from flows.backup.draft import Draft
from flows.backup.filestore_tree import Fault, find_top, walk
from flows.backup.manifest import File, Manifest
from flows.engine.active_run import current_run
from flows.engine.progress import read, written
from flows.engine.step import action, step
from opsdb.errors import PreflightError, StepFailedError
from opsdb.places import filestore_environment, refuse_entry, refuse_filestore
from opsdb.settings import Settings

FILESTORE_SECONDS = 3600
ATTACHMENTS_SECONDS = 1800
LOOK_SECONDS = 30
_SHOWN = 3  # faults in one message

ARCHIVE = '"$PYTHON" -P -m flows.backup.filestore_archive'


def check_filestore(settings: Settings, database: str) -> Path | None:
    """The folder with the attachments of this database, where filestores are configured. Raises PreflightError."""
    if settings.filestore_dir is None:
        return None
    folder = settings.filestore_dir / database
    if refusal := refuse_entry(folder):
        raise PreflightError(f"the filestore {folder} (OPS_FILESTORE_DIR) cannot be read: {refusal}")
    if not folder.is_dir():
        raise PreflightError(
            f"there is no filestore {folder} (OPS_FILESTORE_DIR): correct the setting, or make the folder if "
            f"{database} has no attachments"
        )
    if refusal := refuse_filestore(folder, settings):
        raise PreflightError(refusal)
    found = find_top(folder, settings)
    if isinstance(found, Fault):
        raise PreflightError(f"the filestore {found.path} (OPS_FILESTORE_DIR) {found.found}. Hint: {found.advice}")
    return found


def estimate_filestore(folder: Path | None, earlier: list[Manifest], backups: Path) -> int:
    """What the filestore's archive may need, in bytes: its files, or half more than the last one if that is less.

    Opens each file as its archive will, for LOOK_SECONDS at most, and warns of files not counted by then where there is
    no earlier archive. Raises PreflightError that names what cannot be archived.
    """
    if folder is None:
        return 0
    archives = [one.filestore for one in earlier if one.filestore]
    enough = archives[-1].size_bytes * 3 // 2 if archives else None
    counted, all_counted = _look_through(folder, backups)
    if not all_counted and enough is None:
        told = f"{folder} has more files than can be counted in {LOOK_SECONDS} s: its archive may need more room"
        current_run().event(told, level="warning", counted_bytes=counted)
    if enough is None:
        return counted
    return min(counted, enough) if all_counted else enough


def _look_through(folder: Path, backups: Path) -> tuple[int, bool]:
    """The bytes of its files, and whether that is all of them."""
    counted, faults, until = 0, list[Fault](), time.monotonic() + LOOK_SECONDS
    all_counted = True
    for found in walk(folder, current_run().settings, backups):
        if time.monotonic() > until:
            all_counted = False
            break
        if isinstance(found, Fault):
            faults.append(found)
        elif found.is_file:
            counted += found.status.st_size
    if faults:
        shown = "; ".join(f"{one.path} {one.found}" for one in faults[:_SHOWN])
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        advice = ". Hint: ".join(dict.fromkeys(one.advice for one in faults[:_SHOWN]))
        raise PreflightError(f"the filestore cannot be backed up: {shown}{more}. Hint: {advice}")
    return counted, all_counted


def write_filestore(folder: Path | None, draft: Draft, *, last: Manifest | None) -> File | None:
    """After the dump, so that every attachment of the dump is in it. `last` is of the last good backup."""
    if folder is None:
        return None
    env = {"PYTHON": sys.executable, "FILESTORE": str(folder), "ARCHIVE": draft.path(draft.name.filestore)}
    env["BACKUPS"] = str(draft.folder)
    env |= filestore_environment(current_run().settings)
    last_bytes = last.filestore.size_bytes if last and last.filestore else None
    progress = written(env["ARCHIVE"], last_bytes=last_bytes)
    output = step("filestore", ARCHIVE, timeout=FILESTORE_SECONDS, env=env, progress=progress)
    links = output.number("links")
    return File(
        file=draft.name.filestore,
        size_bytes=output.number("bytes"),
        sha256=output.sha256,
        note=f"{output.number('files')} files" + (f", {links} links followed" if links else ""),
    )


def check_attachments(folder: Path | None, draft: Draft, names: set[str] | None) -> Attachments | None:
    """Which of the attachments that rows name are in the archive. An attachment that only the filestore has fails the
    run."""
    if folder is None:
        return None
    return action(
        "attachments",
        lambda: None if names is None else _check_attachments(folder, draft, names),
        about="look for every file that ir_attachment names in the archive, and compare its SHA-1",
        must_run_again=True,  # with the archive
        progress=read(draft.path(draft.name.filestore)),
    )


def _check_attachments(folder: Path, draft: Draft, names: set[str]) -> Attachments:
    faults = find_faults(names, archived(draft.path(draft.name.filestore)))
    if passed_over := [name for name in faults.lost if (folder / name).exists()]:
        raise StepFailedError(
            f"{len(passed_over)} attachments are in {folder} and not in its archive: {shown_names(passed_over)}. Hint: "
            "they were put there while it was written; make the backup again"
        )
    for names_of, what in ((faults.lost, "are not in the filestore"), (faults.damaged, "are damaged there")):
        if names_of:
            message = f"{len(names_of)} of {len(names)} attachments {what}: {shown_names(names_of)}"
            current_run().event(message, level="warning")
    return faults.recorded(len(names))
