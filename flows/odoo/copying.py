"""A copy of an Odoo database on its server, and of its filestore beside it: made in moments, while Odoo is stopped."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql

from flows.backup.filestore import check_filestore
from flows.backup.folder import check_space
from flows.backup.postgres import Connection
from flows.backup.properties import read_properties
from flows.engine.active_run import current_run
from flows.engine.preflight import missing_programs
from flows.engine.step import action, step
from flows.odoo import aside
from flows.restore.claim import sessions_ended
from flows.restore.properties import bring_back
from flows.restore.server import check_free, check_may_create
from opsdb.database import first_line
from opsdb.errors import PreflightError, StepFailedError
from opsdb.places import refuse_entry

COPY_SECONDS = 3600
LOOK_SECONDS = 30
"""How long a filestore is looked through for what a copy of it needs."""
_SHARED = re.compile(r"[0-9a-f]{40}")
_FOLDER_BYTES = 4096
_AGAIN_SECONDS = 0.5
_ALONE_SECONDS = 60

# Reflinks share blocks until one of the two is written, so they are safe for any file. A hard link shares the file:
# that is safe for attachments, whose names are the SHA-1 of what is in them. Odoo writes one only when no file of that
# name is there, and removes it by its name; it never writes into one that is there. All other files are copied.
# In a folder of another user, Odoo's, root works as that user: no link that is put there leads root anywhere.
COPY = """\
cd -- "$PARENT"
owner() {
  if [ -n "$OWNER" ]; then
    setpriv --reuid="${OWNER%:*}" --regid="${OWNER#*:}" --clear-groups -- "$@"
  else
    "$@"
  fi
}
owner rm -rf -- "./.$NAME.partial" "./$NAME"
if owner cp --archive --reflink=always -- "./$LIVE/." "./.$NAME.partial" 2> /dev/null; then
  how=reflinks
else
  owner rm -rf -- "./.$NAME.partial"
  owner cp --archive --link -- "./$LIVE/." "./.$NAME.partial"
  while IFS= read -r -d '' other; do
    owner cp --archive -- "$other" "$other.ops-copy"
    owner mv --force -- "$other.ops-copy" "$other"
  done < <(owner find "./.$NAME.partial" -regextype posix-extended -type f \\
    ! -regex '.*/[0-9a-f]{2,3}/[0-9a-f]{40}' -print0)
  wait "$!"  # whether all was looked at
  how=links
fi
owner mv --no-target-directory -- "./.$NAME.partial" "./$NAME"
owner sync --file-system -- "./$NAME"
echo "made by: $how"
"""


@dataclass(frozen=True, slots=True)
class Copying:
    """A copy that can be made: all that it needs was looked at."""

    database: str
    filestores: Path | None
    """The folder with the filestore, where filestores are configured."""

    def make(self) -> datetime:
        """Copy filestore and database, as steps of the current run; returns the time of the copy, by the server.

        The database comes last, and its comment says that both are whole. Raises StepError.
        """
        upgrade, name = current_run().id, aside.name_before(current_run().id)
        if self.filestores is not None:
            folder = self.filestores.stat()
            anothers = os.geteuid() == 0 and folder.st_uid != 0
            env = {
                "PARENT": str(self.filestores),
                "LIVE": self.database,
                "NAME": name,
                "OWNER": f"{folder.st_uid}:{folder.st_gid}" if anothers else "",
            }
            step("copy_filestore", COPY, timeout=COPY_SECONDS, env=env)
        url = current_run().settings.odoo_url
        made = action(
            "copy_database",
            lambda: copy_database(url, self.database, upgrade).isoformat(),
            about=f"end the sessions of {self.database}, and CREATE DATABASE {name} TEMPLATE {self.database}",
        )
        return datetime.fromisoformat(made or "1970-01-01T00:00:00+00:00")


def check_copying(database: str) -> Copying:
    """Look at all that a copy needs: rights, room, programs. Changes nothing. Raises PreflightError."""
    settings = current_run().settings
    filestores = settings.filestore_dir if check_filestore(settings, database) is not None else None
    if filestores is not None:
        if refusal := refuse_entry(filestores, write=True):
            raise PreflightError(f"the filestore cannot be copied: {refusal}")
        if missing := missing_programs("cp", "find", "mv", "setpriv", "sync"):
            raise PreflightError(
                f"not on the PATH: {', '.join(missing)}. Hint: install coreutils, findutils, util-linux"
            )
        check_space(filestores, {"the copy of the filestore": _unshared_bytes(filestores / database)})
    with aside.connect_beside(settings.odoo_url, database) as server:
        row = server.execute(
            "SELECT pg_catalog.pg_database_size(oid), pg_catalog.pg_has_role(datdba, 'MEMBER')"
            " FROM pg_catalog.pg_database WHERE datname = %s",
            (database,),
        ).fetchone()
        if row is None:
            raise PreflightError(f"there is no database {database}")
        if not row[1]:
            raise PreflightError(
                f"role {server.info.user!r} may not copy {database}: it is not a member of the database's owner. "
                f"Hint: GRANT that role to {server.info.user}, or protect=dump"
            )
        check_may_create(server)
        if unknown := check_free(server, needed_bytes=int(str(row[0]))):
            current_run().event(f"free space for the copy was not checked: {unknown}", level="warning")
    return Copying(database, filestores)


def _unshared_bytes(filestore: Path) -> int:
    """What a copy by hard links takes at most: its folders, and the files that are not attachments. What is not looked
    at within LOOK_SECONDS is not counted."""
    until, counted = time.monotonic() + LOOK_SECONDS, 0
    for folder, _, names in os.walk(filestore):
        if time.monotonic() > until:
            break
        counted += _FOLDER_BYTES
        for name in names:
            if not _SHARED.fullmatch(name):
                with suppress(FileNotFoundError):  # as Odoo's collector leaves it
                    counted += os.lstat(Path(folder) / name).st_size
    return counted


def copy_database(url: str, database: str, upgrade: UUID) -> datetime:
    """Copy a database under the name for the state before an upgrade, with its properties; returns the server's time
    before.

    A copy that an earlier attempt left is dropped first. Raises StepFailedError.
    """
    name = aside.name_before(upgrade)
    try:
        with aside.connect_beside(url, database) as server:
            aside.drop(server, name)
            properties = read_properties(server, database)
            if properties is None:
                raise StepFailedError(f"there is no database {database} any more")
            if server.info.server_version >= 180000:
                with suppress(psycopg.Error):  # where the server cannot clone files it copies them
                    server.execute("SET file_copy_method = clone")
            with sessions_ended(partial(aside.connect_beside, url, database), database):
                made_at = _create(server, database, name)
            wanted = aside.properties_aside(properties, aside.comment_before(database, upgrade))
            with server.transaction():
                refused = bring_back(server, name, wanted)
            if refused:
                current_run().event(f"the copy lacks: {'; '.join(refused)}", level="warning")
            return made_at
    except psycopg.Error as error:
        raise StepFailedError(f"{database} cannot be copied: {first_line(error)}") from error


def _create(server: Connection, database: str, name: str) -> datetime:
    strategy = " STRATEGY FILE_COPY" if server.info.server_version >= 150000 else ""
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} IS_TEMPLATE true" + strategy)
    until = time.monotonic() + _ALONE_SECONDS
    while True:
        row = server.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
        try:
            server.execute(create.format(sql.Identifier(name), sql.Identifier(database)))
        except psycopg.errors.ObjectInUse as error:
            if time.monotonic() > until:
                raise StepFailedError(
                    f"{database} cannot be copied: {first_line(error)}. Hint: pg_stat_activity shows who connects to "
                    "it again and again; stop that"
                ) from error
            time.sleep(_AGAIN_SECONDS)
        else:
            return row[0]  # type: ignore[index,return-value]  # it has one row, a timestamptz
