"""What stands around a dump before it is loaded: extensions, and what was altered of them, which pg_dump leaves out.

The room makes them from what it knows, and nothing as the dump words it: they are made with a superuser's rights.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from psycopg import sql

from flows.backup.archive import Archive
from flows.backup.extensions import Extension
from flows.backup.postgres import Connection
from opsdb.errors import PreflightError

# Those of PostgreSQL's own distribution that give no access to the host or to other databases, and known others.
_KNOWN = """
plpgsql amcheck bloom btree_gin btree_gist citext cube dict_int dict_xsyn earthdistance fuzzystrmatch hstore
intagg intarray isn lo ltree moddatetime autoinc insert_username refint pg_buffercache pg_freespacemap pg_prewarm
pg_stat_statements pg_trgm pg_visibility pg_walinspect pgcrypto pgrowlocks pgstattuple seg sslinfo tablefunc tcn
tsm_system_rows tsm_system_time unaccent uuid-ossp xml2 hstore_plperl plperl pltcl bool_plperl jsonb_plperl
dblink postgres_fdw
postgis postgis_raster postgis_topology postgis_sfcgal postgis_tiger_geocoder address_standardizer
address_standardizer_data_us pgrouting vector hypopg
"""
KNOWN = frozenset(_KNOWN.split())

# An index holds IMMUTABLE functions alone: where it holds this one, it was altered. Odoo's documents say how.
_ALTERED = {"unaccent": "unaccent(text) IMMUTABLE"}
_WORDS = "(?:IMMUTABLE|STABLE|VOLATILE) PARALLEL (?:SAFE|RESTRICTED|UNSAFE)"
_ALTER = re.compile(rf"ALTER FUNCTION (.+) ({_WORDS})", re.DOTALL)


def alterations(archive: Archive) -> dict[str, str]:
    """What must be altered of extensions for the dump to be loaded: `ALTER FUNCTION schema.` and this text."""
    indexes = [one.definition for one in archive.of("INDEX")]
    return {
        name: altered
        for name, altered in _ALTERED.items()
        if name in archive.extensions and any(f"{name}(" in definition for definition in indexes)
    }


def check_extensions(server: Connection, archive: Archive, *, superuser: bool) -> None:
    """The server has what the dump needs, and the role may make it. Raises PreflightError, before anything is made."""
    rows = server.execute(
        "SELECT DISTINCT ON (name) name, trusted OR NOT superuser FROM pg_catalog.pg_available_extension_versions"
        if server.info.server_version >= 130000
        else "SELECT DISTINCT ON (name) name, NOT superuser FROM pg_catalog.pg_available_extension_versions"
    ).fetchall()
    trusted = {str(name): bool(value) for name, value in rows}
    wanted = archive.extensions.keys()
    if missing := sorted(wanted - trusted.keys()):
        raise PreflightError(
            f"the server has no extension {', '.join(missing)}, which the backup needs. Hint: install its package"
        )
    if not superuser:
        refused = [name for name in sorted(wanted - {"plpgsql"}) if not trusted[name]]
        refused += [f"{name} with ALTER FUNCTION {altered}" for name, altered in alterations(archive).items()]
    else:
        refused = [name for name in sorted(wanted) if name not in KNOWN and not trusted[name]]
    if refused:
        who = "the room does not know" if superuser else f"role {server.info.user!r} may not make"
        raise PreflightError(
            f"the backup needs what {who}: {', '.join(refused)}. Hint: let a superuser make a database with nothing "
            "but that in it, and name it as template"
        )


def make_extensions(db: Connection, archive: Archive, recorded: Sequence[Extension], *, owner: str) -> None:
    """Make them in a new database, with the schemas that they are in, for the role that loads the dump.

    Those that are there, in a copy of a template, stay as they are.
    """
    there = {str(name) for (name,) in db.execute("SELECT extname FROM pg_catalog.pg_extension").fetchall()}
    wanted = {name: schema for name, schema in archive.extensions.items() if name not in there}
    for schema in premade_schemas(archive):
        words = sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}")
        db.execute(words.format(sql.Identifier(schema), sql.Identifier(owner)))
    for name, schema in wanted.items():
        words = sql.SQL("CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA {} CASCADE")
        db.execute(words.format(sql.Identifier(name), sql.Identifier(schema)))
    for name, altered in alterations(archive).items():
        if name in wanted:
            schema = archive.extensions[name]
            db.execute(sql.SQL("ALTER FUNCTION {}." + altered).format(sql.Identifier(schema)))
    if owner == db.info.user:
        return
    for one in recorded:
        if one.name in wanted:
            _alter_members(db, one)
    # rows of an extension's own tables, such as postgis' systems of coordinates, are in the dump
    query = "SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_extension JOIN pg_catalog.pg_class c"
    for (table,) in db.execute(f"{query} ON c.oid = ANY (extconfig)".encode()).fetchall():
        words = sql.SQL("GRANT ALL ON {} TO {}")
        db.execute(words.format(sql.SQL(str(table)), sql.Identifier(owner)))

    if archive.of("SERVER") and "postgres_fdw" in archive.extensions:
        db.execute(sql.SQL("GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO {}").format(sql.Identifier(owner)))


def _alter_members(db: Connection, extension: Extension) -> None:
    """Alter functions as it was recorded. Each is looked up, and no more of the record is executed than its words."""
    query = "SELECT p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_depend d"
    query += " ON d.objid = p.oid AND d.deptype = 'e' JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid"
    query += " WHERE p.oid = pg_catalog.to_regprocedure(%s) AND extname = %s"
    for statement in extension.functions:
        match = _ALTER.fullmatch(statement)
        row = db.execute(query.encode(), (match[1], extension.name)).fetchone() if match else None
        if match and row:
            db.execute(sql.SQL(f"ALTER FUNCTION {row[0]} {match[2]}"))


def premade_schemas(archive: Archive) -> set[str]:
    """The schemas that must be there before the extensions: the dump's own statements for them are left out."""
    return {*archive.extensions.values()} & {one.name for one in archive.of("SCHEMA")} - {"public"}
