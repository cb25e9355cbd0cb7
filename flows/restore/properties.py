"""What belongs to a database and stands outside of it, given to a restored one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

import psycopg
from psycopg import sql

from flows.backup.grants import RoleMap
from flows.backup.postgres import Connection
from flows.backup.properties import Privilege, Properties, read_properties

# Settings whose value is a list of quoted names (GUC_LIST_QUOTE): each name is given by itself.
_LISTS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
}
_OF_PUBLIC = "pg_database_owner"  # schema public is of whoever owns the database
_ITEM = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",\s]+))\s*(?:,|$)')


def with_roles(properties: Properties, roles: RoleMap, *, owner: str) -> Properties:
    """The properties with other roles in their place; `owner` is who owns the database where its owner is left out."""

    def new(role: str) -> str | None:
        return roles.get(role, role)

    return properties.model_copy(
        update={
            "owner": new(properties.owner) or owner,
            "privileges": _together(
                one.model_copy(update={"grantee": new(one.grantee)})
                for one in properties.privileges
                if new(one.grantee) is not None
            ),
            "role_settings": {
                str(new(role)): settings for role, settings in properties.role_settings.items() if new(role) is not None
            },
        }
    )


def _together(privileges: Iterable[Privilege]) -> list[Privilege]:
    """One of each right of a role, that which it may pass on: a role may stand for several."""
    found: dict[tuple[str, str], Privilege] = {}
    for one in sorted(privileges, key=lambda one: one.grantable):
        found[one.grantee, one.privilege] = one
    return list(found.values())


def foresee(server: Connection, properties: Properties, *, owners: Collection[str] = ()) -> list[str]:
    """Phrases for what the login of `server` cannot give to a database here, as far as that can be seen before.

    `owners` are the roles that own something in it.
    """
    row = server.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    superuser, user = bool(row and row[0]), server.info.user
    found = []
    if not superuser and not _may_be(server, properties.owner):
        found.append(f"its owner {properties.owner!r}: GRANT that role to {user!r} first")
    found += [
        f"what belongs to {owner!r} in it, which {user!r} is not a member of"
        for owner in sorted({*owners} - {_OF_PUBLIC})
        if not superuser and not _may_be(server, owner)
    ]
    refused = _refused(server, properties.settings, superuser=superuser)
    found += [f"its setting {name}" for name in refused]
    for role, settings in properties.role_settings.items():
        if not superuser and role != server.info.user:
            found.append(f"the settings of role {role!r} in it")
        else:
            refused = _refused(server, settings, superuser=superuser)
            found += [f"the setting {name} of role {role!r} in it" for name in refused]
    may_use = _value(
        server,
        "SELECT pg_catalog.has_tablespace_privilege(oid, 'CREATE') FROM pg_catalog.pg_tablespace WHERE spcname = %s",
        (properties.tablespace,),
    )
    if not may_use and properties.tablespace != "pg_default":
        found.append(f"its tablespace {properties.tablespace!r}")
    if properties.labels and not superuser:
        found.append("its security labels")
    return found


def bring_back(server: Connection, database: str, wanted: Properties) -> list[str]:
    """Give the properties to a database, in the open transaction of `server`, and read them again.

    What the server refuses does not end it. Returns a phrase for each property that is not as wanted afterwards, with
    the server's reason. A tablespace is chosen when a database is made, and only compared.
    """
    refused: dict[str, str] = {}
    for what, statement in _statements(database, wanted):
        try:
            with server.transaction():
                server.execute(statement)
        except psycopg.Error as error:
            refused.setdefault(what, str(error).strip().splitlines()[0])
    found = read_properties(server, database)
    wrong = _differences(wanted, found) if found else {"database": f"there is no database {database}"}
    return [phrase + (f" ({refused[what]})" if what in refused else "") for what, phrase in wrong.items()]


def _differences(wanted: Properties, found: Properties) -> dict[str, str]:
    """A phrase for each property that differs, by its name."""
    wrong = {}
    for what in Properties.model_fields:
        want, have = getattr(wanted, what), getattr(found, what)
        if what == "privileges":
            want, have = set(want), set(have)
        if want != have:
            plain = isinstance(want, str | int)
            wrong[what] = f"{what.replace('_', ' ')} " + (f"is {have!r} instead of {want!r}" if plain else "differ")
    return wrong


def _statements(database: str, wanted: Properties) -> Iterator[tuple[str, sql.Composed]]:
    name, owner = sql.Identifier(database), sql.Identifier(wanted.owner)
    yield "owner", sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, owner)
    yield "privileges", sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC, {}").format(name, owner)
    for one in wanted.privileges:
        grantee = sql.Identifier(one.grantee) if one.grantee else sql.SQL("PUBLIC")
        grant = sql.SQL("GRANT {} ON DATABASE {} TO {}").format(sql.SQL(_word(one.privilege)), name, grantee)
        yield "privileges", grant + sql.SQL(" WITH GRANT OPTION" if one.grantable else "")
    for setting in wanted.settings:
        yield "settings", sql.SQL("ALTER DATABASE {} SET {}").format(name, _setting(setting))
    for role, settings in wanted.role_settings.items():
        alter = sql.SQL("ALTER ROLE {} IN DATABASE {} SET {}")
        for setting in settings:
            yield "role_settings", alter.format(sql.Identifier(role), name, _setting(setting))
    yield "connection_limit", sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(name, wanted.connection_limit)
    yield "is_template", sql.SQL("ALTER DATABASE {} IS_TEMPLATE {}").format(name, wanted.is_template)
    yield "comment", sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, wanted.comment)
    for provider, label in wanted.labels.items():
        yield (
            "labels",
            sql.SQL("SECURITY LABEL FOR {} ON DATABASE {} IS {}").format(
                sql.Identifier(provider), name, sql.Literal(label)
            ),
        )


def _word(privilege: str) -> str:
    """Raises ValueError for what is not the name of a privilege."""
    if not privilege.isalpha():
        raise ValueError(f"not a privilege: {privilege!r}")
    return privilege


def _setting(setting: str) -> sql.Composed:
    """`name=value` as what stands behind SET."""
    name, _, value = setting.partition("=")
    items = list(_ITEM.finditer(value)) if name.lower() in _LISTS else []
    whole = "".join(item[0] for item in items) == value
    values = [item[2] or (item[1] or "").replace('""', '"') for item in items] if items and whole else [value]
    # a name with a dot is one of an extension's, and has parts
    parts = sql.SQL(".").join(sql.Identifier(part) for part in name.split("."))
    return sql.SQL("{} TO {}").format(parts, sql.SQL(", ").join(sql.Literal(one) for one in values))


def _refused(server: Connection, settings: list[str], *, superuser: bool) -> list[str]:
    """The settings that this version does not know, or that the login may not make."""
    names = sorted({setting.partition("=")[0] for setting in settings})
    query = "SELECT name, context FROM pg_catalog.pg_settings WHERE name = ANY (%s)"
    contexts = {str(name): str(context) for name, context in server.execute(query, (names,)).fetchall()}

    def may(name: str) -> bool:
        if superuser or not contexts[name].startswith("superuser"):
            return True
        privilege = "SELECT pg_catalog.has_parameter_privilege(%s, 'SET')"
        return server.info.server_version >= 150000 and bool(_value(server, privilege, (name,)))

    # with a dot it is a setting of an extension, which may be loaded later
    return [name for name in names if "." not in name and not (name in contexts and may(name))]


def _may_be(server: Connection, role: str) -> bool:
    """Whether the login may make something that role's."""
    member = "SET" if server.info.server_version >= 160000 else "MEMBER"
    query = "SELECT pg_catalog.pg_has_role(current_user, oid, %s) FROM pg_catalog.pg_roles WHERE rolname = %s"
    return bool(_value(server, query, (member, role)))


def _value(server: Connection, query: str, values: tuple[str, ...]) -> object:
    row = server.execute(query.encode(), values).fetchone()
    return row[0] if row else None
