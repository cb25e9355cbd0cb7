"""The steps that write a backup: the dump, the server's roles, Odoo's filestore, and the proof that all can be read."""

from __future__ import annotations

import time
from pathlib import Path

from flows.backup.archive import read_archive
from flows.backup.database import Source
from flows.backup.draft import Draft
from flows.backup.filestore import ATTACHMENTS_SECONDS, FILESTORE_SECONDS, check_attachments, write_filestore
from flows.backup.manifest import File, Manifest, SequenceValue
from flows.backup.snapshot import Recorded, Snapshot
from flows.engine.active_run import current_run
from flows.engine.progress import read, written
from flows.engine.step import StepOutput, action, step
from opsdb.errors import StepFailedError

_SHOWN = 3  # of what could not be recorded, in a message
DUMP_SECONDS = 600
FINGERPRINT_SECONDS = 600  # since the snapshot; what is left of it after the dump, but a minute at least
GLOBALS_SECONDS = 120
VERIFY_SECONDS = 600
DEADLINE_SECONDS = (
    DUMP_SECONDS + FINGERPRINT_SECONDS + GLOBALS_SECONDS + FILESTORE_SECONDS + ATTACHMENTS_SECONDS + VERIFY_SECONDS
)

# The files are written where the draft has them open: a link that somebody puts under their names is not followed.
# $ODOO_DB is a name and never a connection string: its pattern has no `=` and no `:`.
# tee stops at the first write error, so that a full disk ends pg_dump at once.
DUMP = """\
"$PG_DUMP" --format=custom --no-password --lock-wait-timeout=120s --snapshot="$SNAPSHOT" \\
  --encoding="$ENCODING" --dbname="$ODOO_DB" \\
  | tee --output-error=exit -- "$PARTIAL" \\
  | sha256sum
sync -- "$PARTIAL"
stat --dereference --format='bytes: %s' -- "$PARTIAL"
"""

# Without a superuser the passwords cannot be read; the roles can.
GLOBALS = """\
umask 077
"$PG_DUMPALL" --globals-only $ROLE_PASSWORDS --no-password --lock-wait-timeout=60s --database="$NEIGHBOUR" \\
  | tee --output-error=exit -- "$GLOBALS" \\
  | sha256sum
sync -- "$GLOBALS"
stat --dereference --format='bytes: %s' -- "$GLOBALS"
grep -q '^-- PostgreSQL database cluster dump complete' -- "$GLOBALS" || {
  echo "pg_dumpall wrote an incomplete file" >&2
  exit 65
}
"""

# A dump cut in half passes `pg_restore --list`: all of it is decompressed as well. The page cache is dropped first, so
# that the checksum is that of the disk.
VERIFY = """\
dd if="$PARTIAL" iflag=nocache count=0 status=none
echo "$SHA256  $PARTIAL" | sha256sum --check --strict --status || {
  echo "the file on disk is not what pg_dump wrote: its sha256 differs" >&2
  exit 65
}
contents=$("$PG_RESTORE" --list -- "$PARTIAL")
"$PG_RESTORE" --file=/dev/null -- "$PARTIAL"
if ! grep -q '^[0-9]' <<<"$contents"; then
  echo "the dump holds nothing at all: is $ODOO_DB the right database?" >&2
  exit 65
fi
echo "tables: $(grep -Ec '^[0-9]+; [0-9]+ [0-9]+ TABLE DATA ' <<<"$contents" || true)"
"""


def write_backup(source: Source, draft: Draft) -> Manifest:
    """Write all files of a backup under their partial names, and read them again; returns what its manifest says."""
    names = {
        "ODOO_DB": source.database.name,
        "ENCODING": source.locale.encoding,
        "PARTIAL": draft.path(draft.name.dump),
    }
    with (
        source.access.environment() as access,
        Snapshot(source.database, statement_seconds=FINGERPRINT_SECONDS) as snapshot,
    ):
        env = names | access
        dump, recorded = _dump(source, draft, snapshot, env)
        roles = _roles(source, draft, env)
    filestore = write_filestore(source.filestore, draft, last=source.last)
    attachments = check_attachments(source.filestore, draft, recorded.attachments)
    programs = source.access.programs
    verified = step(
        "verify",
        VERIFY,
        timeout=VERIFY_SECONDS,
        env=names | {"SHA256": dump.sha256, "PG_RESTORE": str(programs.pg_restore)},
        progress=read(names["PARTIAL"], names["PARTIAL"]),
    )
    return Manifest(
        database=source.database.name,
        file=dump.file,
        created_at=draft.name.created_at,
        size_bytes=dump.size_bytes,
        sha256=dump.sha256,
        tables=verified.number("tables"),
        server_version=source.access.server_version,
        pg_dump_version=programs.version,
        run_id=str(current_run().id),
        database_bytes=source.size_bytes,
        locale=source.locale,
        contents=recorded.contents,
        properties=recorded.properties,
        extensions=recorded.extensions,
        inventory=recorded.inventory,
        attachments=attachments,
        globals=roles,
        filestore=filestore,
    )


def _dump(source: Source, draft: Draft, snapshot: Snapshot, env: dict[str, str]) -> tuple[File, Recorded]:
    action(
        "snapshot",
        snapshot.open,
        about="export a snapshot, and begin to record the database's objects and to count and hash the rows in it",
        must_run_again=True,  # it ends with its connection
    )
    counting_until = time.monotonic() + FINGERPRINT_SECONDS
    env = env | {"PG_DUMP": str(source.access.programs.pg_dump), "SNAPSHOT": snapshot.id}
    try:
        progress = written(env["PARTIAL"], last_bytes=source.last.size_bytes if source.last else None)
        dumped = step("pg_dump", DUMP, timeout=DUMP_SECONDS, env=env, progress=progress)
    except StepFailedError:
        snapshot.check()
        raise
    recorded = action(
        "fingerprint",
        lambda: _recorded(draft, snapshot.recorded(timeout=max(60.0, counting_until - time.monotonic()))),
        about="wait until all rows are counted and hashed, as long as nobody waits for it",
    )
    return _written(draft.name.dump, dumped), recorded or Recorded()


def _recorded(draft: Draft, recorded: Recorded) -> Recorded:
    """With the values that sequences have in the dump: they know no snapshot. An event names what could not be read."""
    with Path(draft.path(draft.name.dump)).open("rb") as file:
        sequences = read_archive(file).sequences
    values = {name: SequenceValue(before=value, after=value) for name, value in sequences.items()}
    recorded.contents = recorded.contents.model_copy(update={"sequences": values})
    if left := recorded.left:
        told = "; ".join(f"{name}: {why}" for name, why in list(left.items())[:_SHOWN])
        more = f"; and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        message = f"a restore of this dump is not compared with what could not be recorded: {told}{more}"
        current_run().event(message, level="warning", not_recorded=left)
    return recorded


def _roles(source: Source, draft: Draft, env: dict[str, str]) -> File:
    """The roles, their memberships and settings, and the tablespaces."""
    passwords = "" if source.access.superuser else "--no-role-passwords"
    env = env | {"PG_DUMPALL": str(source.access.programs.pg_dumpall), "ROLE_PASSWORDS": passwords}
    env |= {"GLOBALS": draft.path(draft.name.globals), "NEIGHBOUR": source.neighbour}
    output = step("globals", GLOBALS, timeout=GLOBALS_SECONDS, env=env)
    note = "without the roles' passwords: the role is not a superuser" if passwords else ""
    return _written(draft.name.globals, output, note=note)


def _written(file: str, output: StepOutput, *, note: str = "") -> File:
    """A file as its step wrote it: `sha256sum` printed the sum of its standard input, and `stat` the size after it."""
    return File(file=file, size_bytes=output.number("bytes"), sha256=output.sha256, note=note)
