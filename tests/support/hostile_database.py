"""A database whose owner, who may do nothing else, has put code wherever a dump, a drill or a restore executes it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

# Each tries what a superuser may, in a block of its own: one that is refused stops none of the others.
_ATTACK = """
CREATE SCHEMA evil;
CREATE TABLE evil.loot (word text);
CREATE FUNCTION evil.attack(given text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $attack$
DECLARE attempt text;
BEGIN
    FOREACH attempt IN ARRAY ARRAY[
        'RESET SESSION AUTHORIZATION',
        'RESET ROLE',
        'SET SESSION AUTHORIZATION postgres',
        'ALTER ROLE {role} SUPERUSER',
        'ALTER ROLE {role} CREATEROLE',
        'CREATE ROLE {role}_twin SUPERUSER LOGIN',
        'GRANT pg_execute_server_program TO {role}',
        'COPY (SELECT 1) TO PROGRAM ''touch {marker}''',
        'COPY evil.loot FROM PROGRAM ''touch {marker}''',
        'COPY (SELECT 1) TO ''{marker}''',
        'INSERT INTO evil.loot SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolpassword IS NOT NULL',
        'INSERT INTO evil.loot SELECT pg_catalog.pg_read_file(''/etc/passwd'')'
    ] LOOP
        BEGIN
            EXECUTE attempt;
        EXCEPTION WHEN others THEN NULL;
        END;
    END LOOP;
    RETURN true;
END $attack$;
CREATE FUNCTION evil.wrapped(given text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM evil.attack(given); RETURN given; END $$;
"""

_PLACES = {
    "CHECK constraint": "CREATE TABLE checked (v text CHECK (evil.attack(v))); INSERT INTO checked VALUES ('a')",
    "domain": "CREATE DOMAIN dom AS text CHECK (evil.attack(VALUE)); CREATE TABLE typed (v dom);"
    "INSERT INTO typed VALUES ('a')",
    "index": "CREATE TABLE indexed (v text); INSERT INTO indexed VALUES ('a');"
    "CREATE INDEX ON indexed (evil.wrapped(v)); CREATE INDEX ON indexed (v) WHERE evil.wrapped(v) = 'a'",
    "generated column": "CREATE TABLE generated (v text, w text GENERATED ALWAYS AS (evil.wrapped(v)) STORED);"
    "INSERT INTO generated VALUES ('a')",
    "default": "CREATE TABLE defaulting (v text DEFAULT evil.wrapped('a')); INSERT INTO defaulting DEFAULT VALUES",
    "materialized view": "CREATE MATERIALIZED VIEW material AS SELECT evil.attack('a') AS a",
    "view": "CREATE VIEW seen AS SELECT evil.attack('a') AS a",
    "rule": "CREATE TABLE ruled (v text); INSERT INTO ruled VALUES ('a');"
    "CREATE RULE r AS ON INSERT TO ruled DO ALSO SELECT evil.attack('a'); ALTER TABLE ruled ENABLE ALWAYS RULE r",
    "trigger": "CREATE TABLE triggering (v text); INSERT INTO triggering VALUES ('a');"
    "CREATE FUNCTION evil.fired() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN PERFORM evil.attack(NEW.v); RETURN NEW; END';"
    "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON triggering FOR EACH ROW EXECUTE FUNCTION evil.fired();"
    "ALTER TABLE triggering ENABLE ALWAYS TRIGGER t",
    "policy": "CREATE TABLE guarded (v text); INSERT INTO guarded VALUES ('a'); ALTER TABLE guarded ENABLE ROW LEVEL"
    " SECURITY; CREATE POLICY p ON guarded USING (evil.attack(v))",
    "search path": "CREATE FUNCTION evil.current_database() RETURNS name LANGUAGE sql VOLATILE AS"
    " $$SELECT evil.attack('a')::text::name$$;"
    "CREATE FUNCTION evil.pg_encoding_to_char(int) RETURNS name LANGUAGE sql VOLATILE AS"
    " $$SELECT evil.attack('a')::text::name$$;"
    "ALTER DATABASE {database} SET search_path = evil, public, pg_catalog;"
    "ALTER FUNCTION evil.fired() SET search_path = evil, pg_catalog",
    "foreign key": "CREATE TABLE referred (v dom PRIMARY KEY); INSERT INTO referred VALUES ('a');"
    "CREATE TABLE referring (v dom REFERENCES referred); INSERT INTO referring VALUES ('a')",
    "partition": "CREATE TABLE parted (v text, n int) PARTITION BY RANGE ((evil.wrapped(v)));"
    "CREATE TABLE part PARTITION OF parted FOR VALUES FROM ('a') TO ('z'); INSERT INTO parted VALUES ('b', 1)",
    "its own walls": "CREATE FUNCTION evil.open() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
    " EXECUTE format('ALTER DATABASE %I SET search_path = evil, pg_catalog', pg_catalog.current_database());"
    " EXECUTE format('GRANT ALL ON DATABASE %I TO PUBLIC', pg_catalog.current_database());"
    " RETURN true; EXCEPTION WHEN others THEN RETURN true; END $$;"
    "CREATE TABLE opened (v text CHECK (evil.open())); INSERT INTO opened VALUES ('a')",
}


@dataclass(frozen=True)
class HostileDatabase:
    """The database, and by what is seen whether anything came of it."""

    database: str
    role: str
    marker: Path
    server: str

    def harm(self, url: str | None = None) -> list[str]:
        """What its owner has got, on a server; a name for each thing."""
        query = """
            SELECT 'role ' || rolname FROM pg_roles WHERE (rolsuper OR rolcreaterole) AND rolname LIKE %s
            UNION ALL SELECT 'member of ' || roleid::regrole FROM pg_auth_members
                WHERE member IN (SELECT oid FROM pg_roles WHERE rolname LIKE %s)"""
        with psycopg.connect(url or self.server.format(database="postgres")) as db:
            found = [str(name) for (name,) in db.execute(query, (f"{self.role}%",) * 2).fetchall()]
        return found + [str(self.marker)] * self.marker.exists()


@contextmanager
def hostile_database(server: str, name: str, *more: str) -> Iterator[HostileDatabase]:
    """Make it on the server of a URL pattern, with `more` statements of its owner; its role is dropped at the end."""
    role, marker = f"mallory_{name}", Path(tempfile.gettempdir()) / f"harm_{name}"  # where a server may write
    with psycopg.connect(server.format(database="postgres"), autocommit=True) as db:
        db.execute(f"CREATE ROLE {role} LOGIN")
        db.execute(f"CREATE DATABASE {name} TEMPLATE template0 OWNER {role}")
    values = {"role": role, "marker": marker, "database": name}
    own = server.replace("//postgres@", f"//{role}@").format(database=name)
    with psycopg.connect(own, autocommit=True) as db:  # as whom somebody logged in, code cannot change
        for text in (_ATTACK, *_PLACES.values(), *more):
            own_text = text
            for key, value in values.items():
                own_text = own_text.replace("{" + key + "}", str(value))
            db.execute("SET search_path = public")
            db.execute(own_text.encode())
    made = HostileDatabase(name, role, marker, server)
    try:
        yield made
    finally:
        marker.unlink(missing_ok=True)
        with psycopg.connect(server.format(database="postgres"), autocommit=True) as db:
            query = "SELECT DISTINCT datname FROM pg_database d LEFT JOIN pg_shdepend s ON s.dbid = d.oid"
            query += " WHERE %s::regrole IN (datdba, refobjid)"
            for (database,) in db.execute(query, (role,)).fetchall():
                db.execute(f'DROP DATABASE "{database}" WITH (FORCE)')
            db.execute(f"DROP ROLE {role}")
