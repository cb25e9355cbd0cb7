"""What a restore needs, found and checked before anything begins."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.backup.archive import read_archive
from flows.backup.contents import check_server
from flows.backup.folder import Folder, check_space
from flows.backup.grants import RoleMap
from flows.backup.inventory import ROLES
from flows.backup.keyring import room_keyring
from flows.backup.loading import prove_loading
from flows.backup.manifest import Manifest
from flows.backup.names import parse_name
from flows.backup.postgres import access_of, connect
from flows.backup.programs import Programs, find_programs
from flows.backup.properties import Properties
from flows.backup.repository import Backup
from flows.engine.active_run import current_run
from flows.engine.preflight import PROGRAMS, missing_programs
from flows.offsite.target import Target, load_target
from flows.restore.fetch import find_at_target
from flows.restore.loader import is_superuser
from flows.restore.prepare import check_contents, check_template
from flows.restore.sandbox import server_programs
from flows.restore.server import check_free, check_login, check_may_create, foresee_full_disk
from opsdb.errors import PreflightError
from opsdb.near_names import near_name
from opsdb.trust import SAFE_FOLDER, who_else_may_write


@dataclass(frozen=True, slots=True)
class Ready:
    """What a restore needs, found and checked."""

    backup: Backup
    manifest: Manifest
    programs: Programs
    folder: Folder
    target: Target | None
    """Where the backup is, when the folder has not got it."""
    server: Path | None
    """The folder with the programs of a server of its own; None where it is restored on the Odoo databases' server."""
    template: str | None = None
    """A database that a superuser has prepared, to begin with."""
    roles: RoleMap | None = None
    """What stands for the backup's roles; None where everything stays with the role that loads it."""
    properties: Properties | None = None
    """What the database gets when it is published."""
    owner: str | None = None
    """The new role that all of it will belong to; None where the backup says whose things are."""
    needed: Sequence[str] = ()
    """The files besides the dump without which it is not restored."""

    @property
    def trusted(self) -> bool:
        """Whether its own room signed all of its bytes: else what it says of owners and privileges is not done."""
        return self.backup.signed and self.weakness is None

    @property
    def weakness(self) -> str | None:
        """Who could give it other bytes after its sums were compared."""
        here = [] if self.target else [one.file for one in self.manifest.files]
        for path in (self.folder.path, *(self.folder.path / file for file in here)):
            if found := who_else_may_write(path):
                return (
                    f"{found}: the files of {self.backup.name.dump} could be replaced while they are restored. "
                    f"Hint: {SAFE_FOLDER}; or restore it with unsigned=true"
                )
        return None

    @property
    def without(self) -> Collection[str]:
        """What is not compared: whose things are, where nobody brings that back."""
        return ROLES if self.roles is None or not self.trusted else ()


def find_backup(folder: Folder, database: str, file: str | None, target: Target | None) -> Backup:
    """The named backup of the database, or the best one, in the folder, and else at the target.

    A backup that is whole at the target is taken before one that is not in the folder. Raises PreflightError.
    """
    name = parse_name(file) if file else None
    if name is not None and name.database != database:
        raise PreflightError(f"{file} is a backup of {name.database} and not of {database}")
    there = folder.best(database) if name is None else folder.find(name)
    if there and (there.verified or target is None):
        return there
    found = find_at_target(target, folder, database, name) if target else None
    if found and (found.verified or not there):
        return found
    if there:
        return there
    elsewhere = f" and {target.store.place}" if target else ""
    if file is None:
        raise PreflightError(
            f"{folder.path}{elsewhere} holds no backup of {database} that can be restored. Hint: "
            + (_nearly(folder, database) or "make one with odoo_db_backup")
        )
    shown_files = ", ".join(one.name.dump for one in folder.backups(database)[-3:]) or "none"
    raise PreflightError(f"{folder.path}{elsewhere} holds no backup {file}; its newest of {database}: {shown_files}")


def _nearly(folder: Folder, database: str) -> str:
    """A hint at the database with backups whose name is nearly the same; empty where there is none."""
    near = near_name(database, sorted({one.name.database for one in folder.backups()} - {database}))
    return f"there are backups of {near}" if near else ""


def goes_on_without(file: str, manifest: Manifest) -> str:
    """What a restore does without where this file of the backup, which is not the dump, is lost."""
    if manifest.filestore and file == manifest.filestore.file:
        return f"the database is restored without its filestore ({manifest.filestore.note})"
    return "the database is restored without the server's roles and tablespaces, which it lists"


def warn_of_lost(ready: Ready) -> None:
    """Say what the restore does without: once nothing refuses it any more."""
    for file in ready.backup.lost:
        url, without = ready.backup.repository.url(file), goes_on_without(file, ready.manifest)
        current_run().event(f"{url} is missing or not whole: {without}", level="warning")


def restorable_manifest(backup: Backup) -> Manifest:
    """The manifest of a backup whose dump is whole, by its size. Raises PreflightError for any other."""
    if backup.manifest is None or not backup.restorable:
        raise PreflightError(f"{backup.url} cannot be restored: {backup.fault()}. Hint: choose another backup")
    return backup.manifest


def look_up(
    folder: Folder,
    database: str,
    file: str | None,
    target: str | None,
    *,
    drill: bool,
    template: str | None = None,
) -> Ready:
    """Find the backup, and check all that its restore needs. Changes nothing. Raises PreflightError."""
    place = load_target(target, room_keyring(current_run().settings)) if target else None
    backup = find_backup(folder, database, file, place)
    return check_restorable(
        backup, folder, None if backup.repository is folder else place, drill=drill, template=template
    )


def check_restorable(
    backup: Backup,
    folder: Folder,
    target: Target | None = None,
    *,
    drill: bool,
    template: str | None = None,
    planned: bool = False,
    rewritten_bytes: int = 0,
) -> Ready:
    """Check programs, role and disk for the restore of a backup. Changes nothing. Raises PreflightError.

    A drill takes place on a server of its own, unless OPS_DRILL_ON_SERVER is set. `rewritten_bytes` are written besides
    those of the database once it is there. Of a backup that is only `planned`,
    no file is there to be read.
    """
    run = current_run()
    if missing := missing_programs(*PROGRAMS["odoo_restore_drill"]):
        raise PreflightError(f"not on the PATH: {', '.join(missing)}. Install coreutils")
    manifest = restorable_manifest(backup)
    # a dump is compressed: four times its size where the manifest does not know better
    needed = manifest.database_bytes or 4 * manifest.size_bytes
    if drill and not run.settings.drill_on_server:
        programs = find_programs(
            run.settings.pg_bin, server_version=manifest.server_version, dumped_by=manifest.pg_dump_version
        )
        home = next(one for one in (run.settings.home, *run.settings.home.parents) if one.is_dir())
        check_space(home, {"the restored database": needed})
        return Ready(backup, manifest, programs, folder, target, server=server_programs(programs), roles={})
    with connect(run.settings.odoo_url) as server:
        access = access_of(server, run.settings.pg_bin, dumped_by=manifest.pg_dump_version)
        check_server(server)
        prove_loading(access)
        check_may_create(server)
        if is_superuser(server):
            check_login(server)
        if unknown := check_free(server, needed_bytes=needed):
            run.event(f"free space of the server was not checked: {unknown}", level="warning")
        elif full := foresee_full_disk(server, needed_bytes=needed, rewritten_bytes=rewritten_bytes):
            run.event(full, level="warning")
        ready = Ready(backup, manifest, access.programs, folder, target, server=None, template=template)
        if template:
            check_template(server, template, manifest)
        if target is None and not planned:  # else its contents are known when it is fetched
            with (folder.path / manifest.file).open("rb") as dump:
                check_contents(server, read_archive(dump), template=template)
    return ready
