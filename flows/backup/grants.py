"""Queries of who owns what in a database and who may do what with it.

The text of each is JSON, a list of entries. The first member of an entry is a list of roles, in which "" is PUBLIC: so
a reader finds the roles, and can put others into their place. Rights that an object has by itself are left out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

RoleMap = Mapping[str, str | None]
"""What stands for each role of a backup; None for one that is left out: its things stay with who restores them."""

_OWNED = {  # the catalog of a kind of object: the columns with its owner and rights, and what acldefault() calls it
    "pg_class": ("relowner", "relacl", "CASE relkind WHEN 'S' THEN 's' ELSE 'r' END"),
    "pg_proc": ("proowner", "proacl", "'f'"),
    "pg_type": ("typowner", "typacl", "'T'"),
    "pg_namespace": ("nspowner", "nspacl", "'n'"),
    "pg_language": ("lanowner", "lanacl", "'l'"),
    "pg_foreign_data_wrapper": ("fdwowner", "fdwacl", "'F'"),
    "pg_foreign_server": ("srvowner", "srvacl", "'S'"),
    "pg_collation": ("collowner", "NULL", "NULL"),
    "pg_conversion": ("conowner", "NULL", "NULL"),
    "pg_operator": ("oprowner", "NULL", "NULL"),
    "pg_opclass": ("opcowner", "NULL", "NULL"),
    "pg_opfamily": ("opfowner", "NULL", "NULL"),
    "pg_ts_config": ("cfgowner", "NULL", "NULL"),
    "pg_ts_dict": ("dictowner", "NULL", "NULL"),
    "pg_statistic_ext": ("stxowner", "NULL", "NULL"),
    "pg_event_trigger": ("evtowner", "NULL", "NULL"),
    "pg_publication": ("pubowner", "NULL", "NULL"),
}
# What belongs to another object has its owner: row types, arrays, indexes, the operator family of one class.
_WANTED = {
    "pg_class": "relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'",
    "pg_type": "typtype <> 'm' AND NOT EXISTS (SELECT FROM pg_type element WHERE element.typarray = o.oid)"
    " AND NOT EXISTS (SELECT FROM pg_class WHERE oid = typrelid AND relkind <> 'c')",
    "pg_namespace": "nspname !~ '^pg_'",
}
_OBJECTS = " UNION ALL ".join(
    f"SELECT '{catalog}'::regclass::oid, o.oid, o.{owner}, {acl}::aclitem[], ({kind})::\"char\" FROM {catalog} o"  # noqa: S608 - constants
    f" WHERE ({_WANTED.get(catalog, 'true')})"
    f" AND (o.oid >= 16384{' OR nspname = $$public$$' if catalog == 'pg_namespace' else ''})"
    for catalog, (owner, acl, kind) in _OWNED.items()
)
_NAMED = f"""
FROM ({_OBJECTS}) o (catalog, oid, owner, acl, kind)
CROSS JOIN LATERAL pg_identify_object(o.catalog, o.oid, 0) i
CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_depend WHERE classid = o.catalog AND objid = o.oid
                                   AND deptype = 'e')) e (member)
WHERE i.type IS NOT NULL AND coalesce(i.schema, '') !~ '^"?pg_'
"""  # noqa: S608 - constants

OWNERS = f"""
SELECT i.type || ' ' || i.identity, i.identity, jsonb_build_array(jsonb_build_array(ARRAY[pg_get_userbyid(o.owner)]))
{_NAMED} AND NOT e.member
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = o.catalog AND objid = o.oid AND deptype = 'i'
                  AND refclassid <> 'pg_class'::regclass)
"""  # noqa: S608 - constants


def _entries(acl: str, *, condition: str = "true") -> str:
    """Rights as JSON, in one order. MAINTAIN is newer than some servers, and a part of ALL."""
    return f"""(SELECT jsonb_agg(entry ORDER BY entry) FROM aclexplode({acl}) x CROSS JOIN LATERAL (SELECT
        jsonb_build_array(ARRAY[CASE x.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(x.grantee) END],
                          x.privilege_type, x.is_grantable) entry) shown
        WHERE x.privilege_type <> 'MAINTAIN' AND {condition})"""  # noqa: S608 - constants


# Extensions are made again by another role: what their owner may do with their members says nothing.
PRIVILEGES = f"""
SELECT name, NULL, coalesce(granted, '[]') FROM (
    SELECT i.type || ' ' || i.identity AS name,
        {_entries("o.acl", condition="NOT (e.member AND x.grantee = o.owner)")} AS granted,
        {
    _entries(
        "coalesce(CASE WHEN e.member THEN (SELECT initprivs FROM pg_init_privs WHERE classoid = o.catalog"
        " AND objoid = o.oid AND objsubid = 0) END, acldefault(o.kind, o.owner))",
        condition="NOT (e.member AND x.grantee = o.owner)",
    )
} AS usual
    {_NAMED} AND o.acl IS NOT NULL
) a WHERE granted IS DISTINCT FROM usual
UNION ALL
SELECT 'column ' || i.identity, NULL, {_entries("a.attacl")}
FROM pg_attribute a CROSS JOIN LATERAL pg_identify_object('pg_class'::regclass, a.attrelid, a.attnum) i
WHERE a.attacl IS NOT NULL AND a.attrelid >= 16384 AND NOT a.attisdropped
"""  # noqa: S608 - constants

DEFAULT_PRIVILEGES = """
SELECT concat_ws(' ', d.defaclobjtype, n.nspname), NULL, jsonb_agg(jsonb_build_array(
    ARRAY[pg_get_userbyid(d.defaclrole), CASE x.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(x.grantee) END],
    x.privilege_type, x.is_grantable) ORDER BY 1, x.grantee, x.privilege_type)
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
CROSS JOIN LATERAL aclexplode(d.defaclacl) x WHERE x.privilege_type <> 'MAINTAIN' GROUP BY 1
"""

POLICY_ROLES = """
SELECT format('%I on %s', p.polname, p.polrelid::regclass), NULL, jsonb_agg(jsonb_build_array(
    ARRAY[CASE role WHEN 0 THEN '' ELSE pg_get_userbyid(role) END]))
FROM pg_policy p CROSS JOIN LATERAL unnest(p.polroles) role GROUP BY 1
"""


def roles_in(text: str) -> set[str]:
    """The roles that an owner, rights or a policy name."""
    return {role for entry in json.loads(text) for role in entry[0]} - {""}


def with_roles(text: str, roles: RoleMap) -> str:
    """The same with other roles in their place, in one order; entries with a role that is left out are gone."""
    entries = [[[roles.get(role, role) for role in entry[0]], *entry[1:]] for entry in json.loads(text)]
    return json.dumps(
        sorted(entry for at, entry in enumerate(entries) if None not in entry[0] and entry not in entries[:at])
    )


def joined(roles: RoleMap) -> set[str]:
    """The roles that stand for more than one: their rights come together, and with what an owner has anyway."""
    new = [role for role in roles.values() if role is not None]
    return {role for role in new if new.count(role) > 1}


def without_roles(text: str, roles: Collection[str]) -> str:
    """The same without the rights of some roles."""
    return json.dumps([entry for entry in json.loads(text) if entry[0][-1] not in roles])
