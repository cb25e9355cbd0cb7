"""What a restore looks at before it changes anything: each check refuses by name, in a dry run as well."""

from __future__ import annotations

import re
from importlib.metadata import version

from cli.moving.archive import Manifest
from cli.moving.databases import connected, holds, maintenance, ops_database
from cli.moving.roles import RoomRole, check_takeable, read_roles
from deployments.room.restoring import Begun
from flows.backup.programs import major_of
from opsdb.database import driver_url
from opsdb.errors import UsageError
from opsdb.migrate import revisions
from opsdb.public_access import MADE_HERE, maintaining
from opsdb.roles import OF_EVERY_ROOM, plan_roles
from opsdb.schema import SCHEMA
from opsdb.setting_sources import variable
from opsdb.settings import Settings, load_with_sources
from opsdb.settings_file import NAME as SETTINGS_FILE
from opsdb.settings_file import parse_file

OPS, PREFECT = "ops", "prefect"
"""The two databases, whatever they are called."""

# What is in a database beside these schemas, and is not of an extension.
_FOREIGN = """
SELECT DISTINCT 'the schema ' || quote_ident(n.nspname)
FROM (SELECT 'pg_class'::regclass AS class, oid, relnamespace AS schema FROM pg_class
      UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc
      UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace FROM pg_type) o
     JOIN pg_namespace n ON n.oid = o.schema
WHERE n.nspname <> 'information_schema' AND NOT starts_with(n.nspname, 'pg_') AND n.nspname <> ALL (%s)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e')
UNION SELECT 'large objects' WHERE EXISTS (SELECT FROM pg_largeobject_metadata) ORDER BY 1
"""
_MADE_HERE = "SELECT 1 FROM pg_database WHERE datname = %s AND shobj_description(oid, 'pg_database') = %s"
_POWERS = """
SELECT rolname, rolsuper OR rolcreaterole, rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user
"""
_OWNED = "SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = %s"
_MAY_CREATE = {
    OPS: "SELECT has_database_privilege(current_database(), 'CREATE')",
    PREFECT: "SELECT has_schema_privilege('public', 'CREATE')",
}
_SESSIONS = """
SELECT DISTINCT format('%%s (role %%s, from %%s, in %%s)', application_name, usename,
                       coalesce(host(client_addr), 'this host'), datname)
FROM pg_stat_activity
WHERE datname = ANY (%s) AND starts_with(application_name, 'ops ') AND pid <> pg_backend_pid() ORDER BY 1
"""


def databases_of(settings: Settings) -> dict[str, str]:
    """The names of the room's databases, by part."""
    return {OPS: ops_database(settings), PREFECT: settings.prefect_database}


def held(settings: Settings) -> dict[str, bool]:
    """Which parts already exist."""
    return {part: holds(settings, part, name) for part, name in databases_of(settings).items()}


def check_versions(manifest: Manifest, *, name: str) -> None:
    """Raise UsageError for a backup of a room that is newer than this code."""
    if manifest.schema_revision not in revisions():
        raise UsageError(
            f"{name} holds a record at revision {manifest.schema_revision}, which this version does not know: it is of "
            f"a newer room (ops {manifest.ops_version}). Hint: install that version here first"
        )
    if _numbers(manifest.prefect_version) > _numbers(version("prefect")):
        raise UsageError(
            f"{name} holds a database of Prefect {manifest.prefect_version}, and here is Prefect {version('prefect')}. "
            "Hint: install the version of the room that made it"
        )


def place_of(settings: Settings) -> str:
    """Where the record is: the server and the database, without a secret."""
    if settings.embedded:
        return "the embedded PostgreSQL"
    url = driver_url(settings.ops_url)
    host = url.host or url.query.get("host") or url.query.get("service") or "this host"
    return f"{host}:{url.port or url.query.get('port') or 5432}/{url.database}"


def in_effect_after(settings: Settings, manifest: Manifest, *, name: str) -> Settings:
    """These settings, with the databases' names that count once the old room's `ops.toml` is here, if it comes here.

    Raises UsageError for what stands in that file and cannot work here.
    """
    path = settings.home / SETTINGS_FILE
    if path.exists() or not manifest.settings_file:
        return settings
    try:
        after = load_with_sources(own=parse_file(path, manifest.settings_file)).settings
    except UsageError as error:
        raise UsageError(
            f"the settings file in {name} cannot work here: {error}. Hint: put an {SETTINGS_FILE} of this host into "
            f"{settings.home} first; it stays, and that of the old room comes beside it"
        ) from None
    return settings.model_copy(update={"prefect_database": after.prefect_database})


def lacking_settings(manifest: Manifest) -> list[str]:
    """The settings that the old room had from its environment, and that are not set here."""
    here = {variable(name) for name, source in load_with_sources().sources.items() if source.kind != "default"}
    return [name for name in manifest.environment if name not in here]


def keeps_settings(settings: Settings, manifest: Manifest) -> bool:
    """Whether this host's settings file stays, and that of the old room comes beside it."""
    return SETTINGS_FILE in manifest.entries and (settings.home / SETTINGS_FILE).exists()


def check_same(begun: Begun, manifest: Manifest, settings: Settings, *, take_over: bool) -> None:
    """Raise UsageError where this is not the restore that was interrupted."""
    if begun.archive != manifest.id:
        raise UsageError(
            f"the restore of another backup, {begun.file}, was interrupted in {settings.home}. Hint: repeat that, or "
            "choose another OPS_HOME"
        )
    if begun.take_over != take_over:
        was = "with" if begun.take_over else "without"
        raise UsageError(f"the restore that was interrupted here began {was} --take-over: repeat it so")
    if begun.server != place_of(settings):
        raise UsageError(
            f"the restore that was interrupted here began with {begun.server}, and now the settings name "
            f"{place_of(settings)}. Hint: give it the OPS_DATABASE_URL with which it began"
        )


def check_server(settings: Settings, manifest: Manifest, *, name: str, stopped: bool = True) -> None:
    """Raise UsageError for a server that is older than the backup, or that a room works on while it must be stopped."""
    with connected(settings, maintenance(settings)) as db:
        here = db.info.parameter_status("server_version") or "0"
        sessions = db.execute(_SESSIONS, [list(databases_of(settings).values())]).fetchall()
    if major_of(here) < major_of(manifest.server_version):
        raise UsageError(
            f"{name} is of PostgreSQL {manifest.server_version}, and the server here is {here}. Hint: set "
            f"OPS_DATABASE_URL to a server of version {major_of(manifest.server_version)} or newer"
        )
    if sessions and stopped:
        who = _shown([str(row[0]) for row in sessions])
        raise UsageError(
            f"a room is connected to the databases here: {who}. Hint: stop that room (`ops down` there), or choose "
            "another server or other databases"
        )


def check_target(settings: Settings, manifest: Manifest, files: list[str], *, replace: bool) -> dict[str, bool]:
    """Which databases already exist, and would be put aside. Raises UsageError for what could not be done."""
    found = held(settings)
    check_free(settings, files, found, replace=replace)
    for part, there in found.items():
        if there:
            check_ours_alone(settings, databases_of(settings)[part])
    check_rights(settings, found, roles=bool(manifest.roles))
    known = [role.name for role in roles_here(settings) if not role.bare] if found[OPS] else []
    with connected(settings, maintenance(settings)) as db:
        check_takeable(db, manifest.roles, known=known)
    return found


def roles_here(settings: Settings) -> list[RoomRole]:
    """The roles of the record that is here."""
    with connected(settings, ops_database(settings)) as db:
        return read_roles(db, superuser=db.info.parameter_status("is_superuser") == "on")


def check_free(settings: Settings, files: list[str], found: dict[str, bool], *, replace: bool) -> None:
    """Raise UsageError where a room would be lost without `replace`."""
    there = [f"{settings.home / name}" for name in files]
    there += [f"the database {name}" for part, name in databases_of(settings).items() if found[part]]
    if there and not replace:
        raise UsageError(
            f"there is a room here already: {_shown(there)}. Hint: choose another OPS_HOME, or give --replace, which "
            "keeps all of that under other names"
        )


def check_ours_alone(settings: Settings, database: str) -> None:
    """Raise UsageError for a database that would be renamed, holds more than the room, and was not made by a room."""
    if settings.embedded:
        return
    schemas = {OPS: SCHEMA, PREFECT: "public"}
    ours = [schemas[part] for part, name in databases_of(settings).items() if name == database]
    with connected(settings, database) as db:
        if db.execute(_MADE_HERE, [database, MADE_HERE]).fetchone():
            return
        foreign = [str(row[0]) for row in db.execute(_FOREIGN, [ours]).fetchall()]
    if foreign:
        raise UsageError(
            f"the database {database} holds more than the room ({_shown(foreign)}): it is not renamed, for other "
            f"programs use it. Hint: put the schema aside yourself (ALTER SCHEMA {ours[0]} RENAME TO "
            f"{ours[0]}_before), or restore into a database of the room's own"
        )


def check_rights(settings: Settings, found: dict[str, bool], *, roles: bool) -> None:
    """Raise UsageError that names what this login may not do, and a restore would. `roles` is whether it makes some."""
    with maintaining(settings.ops_url, maintenance(settings)) as sa:
        roles = roles or bool(plan_roles(sa, OF_EVERY_ROOM))
    lacking = []
    with connected(settings, maintenance(settings)) as db:
        login, makes_roles, makes_databases = db.execute(_POWERS).fetchall()[0]
        if roles and not makes_roles:
            lacking.append("CREATEROLE, to make the roles of the record")
        for part, name in databases_of(settings).items():
            owned = db.execute(_OWNED, [name]).fetchone()
            if (found[part] or not owned) and not makes_databases:
                lacking.append(f"CREATEDB, to {'rename' if found[part] else 'make'} the database {name}")
            if found[part] and owned == (False,):
                lacking.append(f"to own the database {name}, which is to be renamed")
            if found[part] and name == maintenance(settings):
                lacking.append(f"to connect to the database postgres, since {name} is renamed from there")
            if owned and not found[part] and not _may_create(settings, part, name):
                lacking.append(f"CREATE in the database {name}")
    if lacking:
        missing = "; ".join(lacking)
        raise UsageError(f"the login {login} here lacks what a restore needs: {missing}. Hint: grant it as a superuser")


def _may_create(settings: Settings, part: str, database: str) -> bool:
    with connected(settings, database) as db:
        return db.execute(_MAY_CREATE[part].encode()).fetchone() == (True,)


def _shown(names: list[str]) -> str:
    return ", ".join(names[:5]) + f" and {len(names) - 5} more" * (len(names) > 5)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)[:3]]
