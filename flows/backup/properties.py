"""What belongs to a database and stands outside of it: pg_dump writes it with --create alone."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from flows.backup.postgres import Connection

_DATABASE = """
SELECT pg_get_userbyid(d.datdba), t.spcname, d.datconnlimit, d.datistemplate,
    shobj_description(d.oid, 'pg_database'),
    (SELECT coalesce(jsonb_agg(jsonb_build_array(
         CASE x.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(x.grantee) END, x.privilege_type, x.is_grantable)
         ORDER BY x.grantee, x.privilege_type), '[]')
     FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x),
    (SELECT coalesce(jsonb_object_agg(provider, label), '{}') FROM pg_shseclabel
     WHERE classoid = 'pg_database'::regclass AND objoid = d.oid)
FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = %s
"""
_SETTINGS = """
SELECT CASE s.setrole WHEN 0 THEN '' ELSE pg_get_userbyid(s.setrole) END, s.setconfig
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = %s ORDER BY 1
"""


class Privilege(BaseModel):
    """A right on the database. The grantee "" is PUBLIC."""

    model_config = ConfigDict(frozen=True)

    grantee: str
    privilege: str
    grantable: bool


class Properties(BaseModel):
    """A database from outside. Settings are `name=value`, as the server keeps them."""

    model_config = ConfigDict(frozen=True)

    owner: str
    tablespace: str
    connection_limit: int
    is_template: bool
    comment: str | None = None
    privileges: list[Privilege]
    settings: list[str]
    role_settings: dict[str, list[str]]
    """Of `ALTER ROLE ... IN DATABASE ... SET`, by role."""
    labels: dict[str, str]
    """Of `SECURITY LABEL`, by provider."""

    @property
    def roles(self) -> set[str]:
        """The roles that are named."""
        return {self.owner, *(one.grantee for one in self.privileges), *self.role_settings} - {""}


def read_properties(db: Connection, database: str) -> Properties | None:
    """Read the properties of a database of this server; None where it does not exist."""
    row = db.execute(_DATABASE, (database,)).fetchone()
    if row is None:
        return None
    owner, tablespace, limit, is_template, comment, privileges, labels = row
    settings = {str(role): config for role, config in db.execute(_SETTINGS, (database,)).fetchall()}
    return Properties.model_validate(
        {
            "owner": owner,
            "tablespace": tablespace,
            "connection_limit": limit,
            "is_template": is_template,
            "comment": comment,
            "privileges": [
                {"grantee": grantee, "privilege": privilege, "grantable": grantable}
                for grantee, privilege, grantable in privileges  # type: ignore[attr-defined]  # of jsonb
            ],
            "settings": settings.pop("", []),
            "role_settings": settings,
            "labels": labels,
        }
    )
