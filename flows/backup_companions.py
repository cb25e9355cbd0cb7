"""What belongs to a backup besides its dump: the server's roles, and Odoo's filestore. Each is a step of its own."""

from __future__ import annotations

import re
from pathlib import Path

from flows.backup_draft import Draft
from flows.backup_files import Companion
from flows.postgres_access import Database
from flows.step import step
from opsdb.errors import PreflightError, StepFailedError

GLOBALS_SECONDS = 120
FILESTORE_SECONDS = 3600

# Without a superuser the passwords cannot be read; the roles can.
GLOBALS = """\
umask 077
"$PG_DUMPALL" --globals-only $ROLE_PASSWORDS --no-password --lock-wait-timeout=60s --database="$ODOO_DB" \\
  | tee --output-error=exit -- "$GLOBALS" \\
  | sha256sum
sync -- "$GLOBALS"
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


def role_passwords(db: Database) -> str:
    """The option by which pg_dumpall leaves out the passwords, or nothing where this role may read them."""
    return "" if db.info.parameter_status("is_superuser") == "on" else "--no-role-passwords"


def dump_globals(draft: Draft, env: dict[str, str]) -> Companion:
    """Write the roles, their memberships and settings, and the tablespaces beside the dump."""
    done = step("globals", GLOBALS, timeout=GLOBALS_SECONDS, env={**env, "GLOBALS": str(draft.globals_partial)})
    return Companion(
        file=draft.name.globals,
        size_bytes=draft.globals_partial.stat().st_size,
        sha256=sha256_in(done.stdout),
        note="without the roles' passwords: the role is no superuser" if env["ROLE_PASSWORDS"] else "",
    )


def archive_filestore(draft: Draft, filestore: Path) -> Companion:
    """Write the filestore beside the dump. After the dump, so that every attachment of the dump is in it."""
    env = {"FILESTORE": str(filestore), "ARCHIVE": str(draft.filestore_partial)}
    done = step("filestore", FILESTORE, timeout=FILESTORE_SECONDS, env=env)
    files = re.search(r"^files: (\d+)$", done.stdout, re.MULTILINE)
    return Companion(
        file=draft.name.filestore,
        size_bytes=draft.filestore_partial.stat().st_size,
        sha256=sha256_in(done.stdout),
        note=f"{files[1] if files else 0} files",
    )


def sha256_in(output: str) -> str:
    """The sum that sha256sum printed of its standard input."""
    match = re.search(r"^([0-9a-f]{64})  -$", output, re.MULTILINE)
    if match is None:
        raise StepFailedError("the step's output lacks a sha256")
    return match[1]
