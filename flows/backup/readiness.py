"""What a backup starts from: all that is checked before, and the new file's name, reserved."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

from flows.backup.companions import check_filestore, estimate_filestore, role_passwords
from flows.backup.contents import check_server
from flows.backup.draft import Draft, clear_leftovers, draft
from flows.backup.files import Backup, list_backups
from flows.backup.manifest import Locale, Manifest
from flows.backup.names import BackupName
from flows.backup.postgres import Database, Programs, find_programs, missing_tools, program_env
from flows.backup.preflight import (
    check_readable,
    check_space,
    connect_to,
    database_bytes,
    estimate_bytes,
    locale_of,
    prepare_folder,
)
from flows.engine.active_run import current_run
from flows.engine.preflight import PROGRAMS
from flows.restore.restore import Ready as ReadyToRestore
from opsdb.errors import PreflightError


@dataclass(frozen=True, slots=True)
class Ready:
    """A database that can be dumped, with what that takes."""

    draft: Draft
    programs: Programs
    filestore: Path | None
    server_version: str
    database_bytes: int
    locale: Locale
    role_passwords: str
    env: dict[str, str]
    password: str = field(repr=False)

    def drilled(self, manifest: Manifest) -> ReadyToRestore:
        """What the drill of a dry run starts from: the backup that was not made."""
        backup = Backup(
            folder=self.draft.dump.parent, name=self.draft.name, size_bytes=manifest.size_bytes, manifest=manifest
        )
        return ReadyToRestore(
            backup=backup,
            manifest=manifest,
            programs=self.programs,
            superuser=not self.role_passwords,
            env=self.env,
            password=self.password,
        )


def prepare(database: str, folder: Path, stack: ExitStack) -> Ready:
    """Check everything, then reserve the new file's name: the draft lives as long as `stack`."""

    def reserve(db: Database, filestore: Path | None) -> Draft:
        prepare_folder(folder)
        if leftovers := clear_leftovers(folder, database):
            current_run().event("removed what killed backups left", level="warning", files=leftovers)
        check_space(folder, _needed_bytes(db, filestore, list_backups(folder, database)))
        return stack.enter_context(draft(folder, database, clock=lambda: _server_clock(db)))

    return _examine(database, reserve)


def foresee(database: str, folder: Path) -> Ready:
    """The same, while nothing changes: for a dry run."""
    return _examine(database, lambda db, filestore: _planned_draft(db, filestore, database, folder))


def _planned_draft(db: Database, filestore: Path | None, database: str, folder: Path) -> Draft:
    """Where the dump would be written, and whether there is room: changes nothing."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if not there.is_dir():
        raise PreflightError(f"cannot make the backup folder {folder}: {there} is not a folder")
    if there == folder:
        prepare_folder(folder)
    earlier = list_backups(folder, database) if there == folder else []
    check_space(there, _needed_bytes(db, filestore, earlier))
    if not os.access(there, os.W_OK):
        raise PreflightError(f"cannot write to {there}")
    now = _server_clock(db).astimezone(UTC).replace(microsecond=0)
    return Draft(folder=folder, name=BackupName(database, now), handle=-1)


def _needed_bytes(db: Database, filestore: Path | None, earlier: list[Backup]) -> dict[str, int]:
    return {"the dump": estimate_bytes(db, earlier), "the filestore": estimate_filestore(filestore, earlier)}


def _examine(database: str, reserve: Callable[[Database, Path | None], Draft]) -> Ready:
    """Check programs and database, and what the dump is written to last."""
    run = current_run()
    if missing := missing_tools(*PROGRAMS["odoo_db_backup"]):
        raise PreflightError(f"not on the PATH: {', '.join(missing)}. Install coreutils, grep, gzip and tar")
    with connect_to(database, url=run.settings.odoo_url) as db:
        server_version = db.info.parameter_status("server_version") or str(db.info.server_version // 10000)
        programs = find_programs(run.settings.pg_bin, server_version=server_version)
        check_server(db)
        check_readable(db)
        filestore = check_filestore(run.settings.filestore_dir, database)
        return Ready(
            draft=reserve(db, filestore),
            programs=programs,
            filestore=filestore,
            server_version=server_version,
            database_bytes=database_bytes(db),
            locale=locale_of(db),
            role_passwords=role_passwords(db),
            env=program_env(db),
            password=db.info.password,
        )


def _server_clock(db: Database) -> Any:
    """The database server's time: hosts that back up one database agree on the order of its backups."""
    row = db.execute("SELECT clock_timestamp()").fetchone()
    return row[0] if row else None
