"""What belongs to a backup besides its dump: the server's roles, and Odoo's filestore. Each is a step of its own."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from flows.backup.draft import Draft
from flows.backup.files import Backup
from flows.backup.manifest import Companion
from flows.backup.postgres import Database
from flows.engine.active_run import current_run
from flows.engine.step import step
from opsdb.errors import PreflightError, StepFailedError

GLOBALS_SECONDS = 120
FILESTORE_SECONDS = 3600
COUNT_SECONDS = 30

# Without a superuser the passwords cannot be read; the roles can.
GLOBALS = """\
umask 077
"$PG_DUMPALL" --globals-only $ROLE_PASSWORDS --no-password --lock-wait-timeout=60s --database="$ODOO_DB" \\
  | tee --output-error=exit -- "$GLOBALS" \\
  | sha256sum
sync -- "$GLOBALS"
stat --format='bytes: %s' -- "$GLOBALS"
grep -q '^-- PostgreSQL database cluster dump complete' -- "$GLOBALS" || {
  echo "pg_dumpall wrote an incomplete file" >&2
  exit 65
}
"""

# Odoo names each file by the hash of its content and never changes it, so that only new and deleted ones can differ
# from the moment of the dump: that is tar's exit code 1.
FILESTORE = """\
umask 077
cd -- "$FILESTORE"
{ tar --create --file=- --format=gnu --sort=name --numeric-owner . || [ "$?" -eq 1 ]; } \\
  | gzip --fast --no-name \\
  | tee --output-error=exit -- "$ARCHIVE" \\
  | sha256sum
sync -- "$ARCHIVE"
stat --format='bytes: %s' -- "$ARCHIVE"
dd if="$ARCHIVE" iflag=nocache count=0 status=none
echo "files: $(gzip --decompress --stdout -- "$ARCHIVE" | tar --list --file=- | grep -vc '/$' || true)"
"""


def check_filestore(parent: Path | None, database: str) -> Path | None:
    """The folder with the attachments of this database, where filestores are configured. Raises PreflightError."""
    if parent is None:
        return None
    folder = parent / database
    if not folder.is_dir():
        raise PreflightError(
            f"there is no filestore {folder} (OPS_FILESTORE_DIR): correct the setting, or make the folder if "
            f"{database} has no attachments"
        )
    return folder


def estimate_filestore(folder: Path | None, previous: list[Backup]) -> int:
    """What the filestore's archive may need, in bytes: its files, or half more than the last good one if that is less.

    Counts for COUNT_SECONDS at most. Files that are not counted by then are told where there is no earlier archive.
    """
    if folder is None:
        return 0
    archives = [one.manifest.filestore for one in previous if one.verified and one.manifest and one.manifest.filestore]
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


def role_passwords(db: Database) -> str:
    """The option by which pg_dumpall leaves out the passwords, or nothing where this role may read them."""
    return "" if db.info.parameter_status("is_superuser") == "on" else "--no-role-passwords"


def dump_globals(draft: Draft, env: dict[str, str]) -> Companion:
    """Write the roles, their memberships and settings, and the tablespaces beside the dump."""
    env = {**env, "GLOBALS": str(draft.globals_partial)}
    done = written_in(step("globals", GLOBALS, timeout=GLOBALS_SECONDS, env=env, planned=PLANNED).stdout)
    return Companion(
        file=draft.name.globals,
        size_bytes=done.size_bytes,
        sha256=done.sha256,
        note="without the roles' passwords: the role is no superuser" if env["ROLE_PASSWORDS"] else "",
    )


def archive_filestore(draft: Draft, filestore: Path) -> Companion:
    """Write the filestore beside the dump. After the dump, so that every attachment of the dump is in it."""
    env = {"FILESTORE": str(filestore), "ARCHIVE": str(draft.filestore_partial)}
    output = step("filestore", FILESTORE, timeout=FILESTORE_SECONDS, env=env, planned=PLANNED).stdout
    files, done = re.search(r"^files: (\d+)$", output, re.MULTILINE), written_in(output)
    return Companion(
        file=draft.name.filestore,
        size_bytes=done.size_bytes,
        sha256=done.sha256,
        note=f"{files[1] if files else 0} files",
    )


class Written(NamedTuple):
    """A file as its step wrote it."""

    sha256: str
    size_bytes: int


PLANNED = f"{'0' * 64}  -\nbytes: 1\n"
"""The output that a dry run takes for that of a step which writes a file."""


def written_in(output: str) -> Written:
    """The sum that sha256sum printed of its standard input, and the size that stat printed after it."""
    match = re.search(r"^([0-9a-f]{64})  -\nbytes: (\d+)$", output, re.MULTILINE)
    if match is None:
        raise StepFailedError("the step's output lacks the sha256 and size of what it wrote")
    return Written(sha256=match[1], size_bytes=int(match[2]))
