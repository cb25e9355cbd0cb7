"""The runbook `odoo_staging_copy`: a neutralised copy of an Odoo in place of the previous one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from flows.backup.database import Database, Source
from flows.backup.dump import DEADLINE_SECONDS as BACKUP_SECONDS
from flows.backup.folder import Folder, backup_folder
from flows.backup.keyring import room_keyring
from flows.backup.making import check_backup, make_backup
from flows.backup.names import parse_name
from flows.backup.parameters import (
    NO_ROLES,
    BackupFolder,
    BackupOrDatabase,
    OdooDatabase,
    OptionalFolder,
    OptionalTarget,
    RolesInstead,
    TemplateDatabase,
)
from flows.copies.choice import Choice, choose, say
from flows.copies.neutral import NEUTRALISE_SECONDS, Neutralising
from flows.copies.odoo_sql import ask_odoo, find_odoo
from flows.copies.original import is_live_odoo, is_odoo
from flows.copies.own_rules import (
    OwnRules,
    check_own_rules,
    check_rules_of_live,
    read_own_rules,
    rewritten_bytes,
)
from flows.copies.replaced import (
    Replaced,
    check_filestore,
    check_may_replace,
    check_replaceable,
    clear_replaced,
    partial_name,
)
from flows.copies.swap import KEEP_SECONDS, keep_old_files, swap_in
from flows.copies.unnamed_files import remove_unnamed
from flows.engine.active_run import current_run
from flows.engine.preflight import PROGRAMS, missing_programs
from flows.engine.runbook import runbook
from flows.engine.step import action
from flows.odoo.parameters import OptionalHealthUrl, OptionalHost
from flows.restore.filestore import FILESTORE_SECONDS, check_exchange, compare_unpacked, unpacked
from flows.restore.load import ANALYZE_SECONDS
from flows.restore.lookup import Found, check_copy, find_copy
from flows.restore.ready import Ready, restorable_manifest
from flows.restore.restore import DEADLINE_SECONDS, proof, restored
from flows.restore.told import restore_facts
from opsdb.errors import PreflightError, StepFailedError


@runbook(
    deadline_seconds=BACKUP_SECONDS
    + DEADLINE_SECONDS
    + ANALYZE_SECONDS
    + FILESTORE_SECONDS
    + NEUTRALISE_SECONDS
    + KEEP_SECONDS,
    exclusive="odoo_db",
    explain=restore_facts,
    subject="${params.odoo_db} · copy of ${params.backup}",
)
def odoo_staging_copy(
    odoo_db: OdooDatabase,
    backup: BackupOrDatabase,
    filestore_dir: OptionalFolder = "",
    backup_dir: BackupFolder = "",
    target: OptionalTarget = "",
    *,
    live: bool = False,
    odoo_host: OptionalHost = "",
    base_url: OptionalHealthUrl = "",
    template: TemplateDatabase = "",
    roles: RolesInstead = NO_ROLES,
    missing_roles: Literal["refuse", "leave"] = "refuse",
) -> dict[str, Any]:
    """Put a neutralised copy of production in place of the previous staging copy, database and filestore.

    **When to use it:** to give a team fresh data to test with, each week for instance.

    **What it changes:** the database odoo_db, and its filestore, are replaced at once when the new ones are whole.
    Until then, and when anything fails, the previous ones stay. Whoever is connected is cut off for a moment. What was
    changed in the old copy is gone.

    **What it needs:** a backup that is signed by this room, and room on the disk for both. It replaces a neutralised
    Odoo, or nothing: never production. So rename or drop a staging database that was made by hand, such as the demo's
    odoo_staging, before the first copy.

    ```
    ops run odoo_staging_copy -p odoo_db=odoo_staging -p backup=odoo_prod --wait
    ```

    Args:
        odoo_db: Name of the copy, which is replaced where it exists.
        backup: Database whose newest good backup is copied, or file name of a backup.
        filestore_dir: Absolute path of the copy's filestore, whose last part is odoo_db. Empty to leave the filestore
            of the copy as it is.
        backup_dir: Absolute path of the folder with the backups. Empty for the room's own.
        target: Backup Target block to fetch the backup from when the folder does not have it. Empty for none.
        live: Back up first the database that backup names, and copy that, instead of its newest backup.
        odoo_host: Odoo Host block whose Odoo gives the statements that neutralise its modules. Empty for those of the
            room alone.
        base_url: Address that the copy takes for its own, in links for instance. Empty for http://localhost:8069.
        template: Database to begin with, which a superuser has prepared with extensions and nothing else. Empty for
            PostgreSQL's own.
        roles: Other roles for those of the backup, such as {"odoo": "odoo_staging"}. Empty for roles of the same names.
        missing_roles: What to do when the server lacks a role of the backup: refuse the copy, or leave what that role
            owned to the room's role and drop its privileges.
    """
    started, run = time.monotonic(), current_run()
    folder = backup_folder(backup_dir)
    attachments = Path(filestore_dir) if filestore_dir else None
    host = find_odoo(odoo_host)
    if live:
        run.acquire(_lock(backup))

    def find() -> tuple[Found | None, Choice, OwnRules]:
        _check_places(odoo_db, backup, attachments)
        there = None if live else find_copy(folder, backup, target=target)
        odoo = is_odoo(there) if there else _is_live_odoo(backup)
        if odoo is False:
            raise PreflightError(f"backup: {backup} is not an Odoo's. Hint: restore it with odoo_db_restore")
        own = read_own_rules(there.manifest.database if there else backup, run.settings)
        if there is None:
            check_rules_of_live(own, Database(backup, run.settings.odoo_url))
        return there, choose(odoo=odoo, as_production=False), own

    source = f"database {backup}, and whether it" if live else f"{backup} in {folder.path}, and whether it"
    there, choice, own = action("find", find, about=f"find {source} is an Odoo's", preflight=True)
    say(choice, odoo_db, own, source=f"the source is {backup} as it is now: this run backs it up first" if live else "")
    found = there or _back_up(odoo_db, backup, attachments, folder)
    if live:
        run.release(_lock(backup))  # whoever waits for production need not wait for the copy

    def prepare() -> Ready:
        _check_replaced(odoo_db, attachments)
        ready = check_copy(
            found,
            attachments=attachments,
            template=template,
            unsigned=False,
            roles=roles,
            missing_roles=missing_roles,
            owner=f"{odoo_db}_owner",
            replaces=True,
            rewritten_bytes=rewritten_bytes(own, found.manifest),
        )
        check_own_rules(own, ready, current_run().settings.odoo_url)
        return ready

    about = f"check that {odoo_db} is a copy, or not there; check programs, roles and disk"
    ready = action("preflight", prepare, about=about, preflight=True)
    replaced = Replaced(odoo_db)
    action(
        "clear",
        lambda: _clear(odoo_db, attachments),
        about=f"drop what killed runs left of {odoo_db} under other names",
    )
    change = Neutralising(
        odoo_db, choice.how, own=own, base_url=base_url, odoo_sql=ask_odoo(host, ready.manifest.database)
    )
    partial = partial_name(attachments, run.id) if attachments else ""
    with (
        restored(ready, change) as done,
        unpacked(done.files, ready.backup.name, attachments, partial=partial) as files,
    ):
        if change.result is None and run.plan is None:
            raise StepFailedError(f"{ready.manifest.file} is not an Odoo's: nothing was replaced")
        if attachments is not None and ready.manifest.attachments is not None:
            action(
                "unpacked attachments",
                lambda: compare_unpacked(ready.manifest, done.named, files),
                about="read every unpacked file that ir_attachment names, and compare its SHA-1",
                must_run_again=True,
            )
        keep_old_files(files)
        remove_unnamed(files, change)  # the old one may have them, too
        refused = action(
            "swap",
            lambda: swap_in(done.scratch, replaced, files, ready),
            about=f"rename {odoo_db} to {replaced.aside} and {done.scratch.name} to {odoo_db} in one transaction, "
            "and exchange their filestores before it ends",
            must_run_again=True,
        )
        action("drop_replaced", replaced.drop, about=f"drop {replaced.aside}, the previous copy")
    return proof(ready, done) | {
        "database": odoo_db,
        "published": choice.how,
        "neutralised": change.told(),
        "not_restored": [
            *done.handed.refused,
            *(refused or []),
            *(f"{one} of the filestore" for one in files.left_out),
        ],
        "filestore": str(attachments) if attachments else None,
        "duration_seconds": round(time.monotonic() - started, 3),
    }


def _back_up(database: str, source: str, attachments: Path | None, folder: Folder) -> Found:
    """Make a backup, as steps of the current run."""
    settings = current_run().settings
    keyring = room_keyring(settings)

    def prepare() -> Source:
        _check_replaced(database, attachments)
        return check_backup(Database(source, settings.odoo_url), folder, keyring)

    found = action(
        "live_preflight",
        prepare,
        about=f"check that {database} is a copy, or not there, programs, database {source}, and room in {folder.path}",
        preflight=True,
    )
    made = make_backup(found, folder, keyring)
    return Found(made, restorable_manifest(made), folder, planned=current_run().plan is not None)


def _lock(database: str) -> str:
    return f"odoo_db:{database}"


def _is_live_odoo(database: str) -> bool:
    if parse_name(database) is not None:
        raise PreflightError(f"live: {database} is a backup already. Hint: name the database, or leave live off")
    return is_live_odoo(database, current_run().settings.odoo_url)


def _check_replaced(database: str, attachments: Path | None) -> None:
    """What the copy takes the place of is a copy, and can be replaced. Raises PreflightError."""
    url = current_run().settings.odoo_url
    check_replaceable(database, url)
    check_may_replace(database, url)
    check_filestore(database, attachments, url)
    if attachments is not None:
        check_exchange(attachments)


def _check_places(database: str, backup: str, attachments: Path | None) -> None:
    """Raise PreflightError where a program is missing, or the copy would take the place of its original."""
    if missing := missing_programs(*PROGRAMS["odoo_staging_copy"]):
        raise PreflightError(f"not on the PATH: {', '.join(missing)}. Hint: install coreutils, findutils, grep and sed")
    name = parse_name(backup)
    source = name.database if name else backup
    if source == database:
        raise PreflightError(f"odoo_db: {database} is the database of the backup itself: choose another name")
    if attachments is not None and attachments.name != database:
        raise PreflightError(
            f"filestore_dir: an Odoo looks for the files of {database} in a folder of that name, not in "
            f"{attachments.name!r}. Hint: {attachments.parent / database}"
        )


def _clear(database: str, attachments: Path | None) -> None:
    if cleared := clear_replaced(database, attachments):
        current_run().event(f"dropped what killed runs left of {database}", level="warning", names=cleared)
