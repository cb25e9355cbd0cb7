"""The runbook `odoo_db_restore`: a backup into a new database, never over one that is there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from flows.backup.contents import summary
from flows.backup.folder import backup_folder
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
from flows.backup.postgres import connect
from flows.copies.choice import Choice, ask_production, choose, say
from flows.copies.neutral import NEUTRALISE_SECONDS, Neutralising
from flows.copies.odoo_sql import ask_odoo, find_odoo
from flows.copies.original import is_odoo
from flows.copies.own_rules import OwnRules, check_own_rules, read_own_rules, rewritten_bytes
from flows.copies.unnamed_files import remove_unnamed
from flows.engine.active_run import current_run
from flows.engine.approval import approval
from flows.engine.runbook import runbook
from flows.engine.step import action
from flows.odoo.parameters import APPROVAL_MINUTES, OptionalHealthUrl, OptionalHost
from flows.restore.filestore import FILESTORE_SECONDS, Unpacked, compare_unpacked, unpacked
from flows.restore.load import ANALYZE_SECONDS
from flows.restore.lookup import Found, check_copy, find_copy, left_packed
from flows.restore.ready import Ready
from flows.restore.restore import DEADLINE_SECONDS, proof, restored
from flows.restore.scratch import Scratch
from flows.restore.told import restore_facts
from opsdb.errors import PreflightError


@runbook(
    deadline_seconds=DEADLINE_SECONDS + ANALYZE_SECONDS + FILESTORE_SECONDS + NEUTRALISE_SECONDS,
    exclusive="odoo_db",
    explain=restore_facts,
    subject="${params.odoo_db} · restore of ${params.backup}",
)
def odoo_db_restore(
    odoo_db: OdooDatabase,
    backup: BackupOrDatabase,
    backup_dir: BackupFolder = "",
    filestore_dir: OptionalFolder = "",
    target: OptionalTarget = "",
    *,
    template: TemplateDatabase = "",
    unsigned: bool = False,
    roles: RolesInstead = NO_ROLES,
    missing_roles: Literal["refuse", "leave"] = "refuse",
    as_production: bool = False,
    odoo_host: OptionalHost = "",
    base_url: OptionalHealthUrl = "",
) -> dict[str, Any]:
    """Restore a backup into a new database, compare it with what was dumped, and only then give it its name.

    **When to use it:** to bring back what was lost, or for a copy to test with. Never over a database that exists:
    restore to a new name, look at it, and switch over yourself.

    **What it changes:** it makes one new database, with the owner, privileges and settings of the backup as far as the
    room's role may give them. What it cannot give is named before the restore begins, and in the result. An Odoo is
    neutralised before it gets its name, unless as_production is on: it sends no mail and runs no jobs.

    **What it needs:** a backup that is signed by this room, PostgreSQL's programs, and room on the disk.

    ```
    ops backups odoo_prod
    ops run odoo_db_restore -p odoo_db=odoo_test -p backup=odoo_prod_20261125T231116Z.dump --wait
    ```

    Args:
        odoo_db: Name of the new database, which must not exist yet.
        backup: File name of the backup, as the command ops backups lists it, or a database, whose newest good backup is
            restored.
        backup_dir: Absolute path of the folder with the backups. Empty for the room's own.
        filestore_dir: Absolute path of a new folder for the backup's filestore. Empty to leave the filestore packed.
        target: Backup Target block to fetch the backup from when the folder does not have it. Empty for none.
        template: Database to begin with, which a superuser has prepared with extensions and nothing else. Empty for
            PostgreSQL's own.
        unsigned: Restore a backup that neither this room signed nor one whose key was imported. Whoever made it can run
            commands in the restored database, which will belong to a new role, NAME_owner.
        roles: Other roles for those of the backup, such as {"odoo": "odoo_test"}. Empty for roles of the same names.
        missing_roles: What to do when the server lacks a role of the backup: refuse the restore, or leave what that
            role owned to the room's role and drop its privileges.
        as_production: Do not neutralise an Odoo: its jobs, mail and payments run as soon as it is served. The run
            waits for an approval where the server has a database with the same database.uuid.
        odoo_host: Odoo Host block whose Odoo gives the statements that neutralise its modules. Empty for those of the
            room alone.
        base_url: Address that a neutralised Odoo takes for its own, in links for instance. Empty for
            http://localhost:8069.
    """
    started = time.monotonic()
    folder = backup_folder(backup_dir)
    attachments = Path(filestore_dir) if filestore_dir else None
    host = None if as_production else find_odoo(odoo_host)

    def find() -> tuple[Found, Choice, OwnRules]:
        _check_free(odoo_db)
        found = find_copy(folder, backup, target=target)
        own = OwnRules() if as_production else read_own_rules(found.manifest.database, current_run().settings)
        return found, choose(odoo=is_odoo(found), as_production=as_production), own

    def prepare() -> tuple[Ready, str | None]:
        ready = check_copy(
            found,
            attachments=attachments,
            template=template,
            unsigned=unsigned,
            roles=roles,
            missing_roles=missing_roles,
            owner=f"{odoo_db}_owner",
            rewritten_bytes=rewritten_bytes(own, found.manifest),
        )
        check_own_rules(own, ready, current_run().settings.odoo_url)
        return ready, ask_production(ready, odoo_db) if choice.as_production else None

    about = f"check that there is no database {odoo_db}; find {backup} in {folder.path}, and whether it is an Odoo's"
    found, choice, own = action("find", find, about=about, preflight=True)
    say(choice, odoo_db, own)
    ready, question = action("preflight", prepare, about="check programs, roles and disk", preflight=True)
    if question:
        approval("approve_production", question, timeout=60 * APPROVAL_MINUTES)
    change = None
    if not choice.as_production:  # the backup may be an Odoo's after all
        said = ask_odoo(host, ready.manifest.database)
        change = Neutralising(odoo_db, choice.how, own=own, base_url=base_url, odoo_sql=said)
    with (
        restored(ready, change) as done,
        unpacked(done.files, ready.backup.name, attachments) as files,
    ):
        if attachments is not None and ready.manifest.attachments is not None:
            action(
                "unpacked attachments",
                lambda: compare_unpacked(ready.manifest, done.named, files),
                about="read every unpacked file that ir_attachment names, and compare its SHA-1",
                must_run_again=True,
            )
        remove_unnamed(files, change)
        refused = action(
            "publish",
            lambda: _publish(done.scratch, odoo_db, files, ready),
            about=f"rename {done.scratch.name} to {odoo_db}, and give it its owner, privileges and settings",
        )
    not_restored = [*done.handed.refused, *(refused or []), *(f"{name} of the filestore" for name in files.left_out)]
    if not_restored:
        current_run().event(f"not restored: {summary(not_restored)}", level="warning")
    packed = ready.manifest.filestore
    if packed is not None and attachments is None and packed.file not in done.missing:
        not_restored.append(left_packed(packed))
    return proof(ready, done) | {
        "database": odoo_db,
        "published": choice.how,
        "neutralised": change.told() if change else None,
        "not_restored": not_restored,
        "filestore": str(attachments) if attachments else None,
        "duration_seconds": round(time.monotonic() - started, 3),
    }


def _publish(scratch: Scratch, database: str, files: Unpacked, ready: Ready) -> list[str]:
    files.keep()
    try:
        return scratch.keep_as(database, ready.properties, owner=ready.owner)
    except BaseException:
        files.take_back()
        raise


def _check_free(database: str) -> None:
    """Raise PreflightError where there is a database of that name."""
    with connect(current_run().settings.odoo_url) as server:
        if server.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", (database,)).fetchone():
            raise PreflightError(f"there is a database {database} already, and it is not touched: choose a new name")
