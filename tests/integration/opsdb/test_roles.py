"""How the roles of a server come to the rights that the code gives them, by a login that is no superuser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from opsdb import migrate
from opsdb.errors import OpsError, UsageError
from opsdb.migrate import head, repair_roles, upgrade
from opsdb.rights import ROLES
from opsdb.settings import Settings
from tests.support.postgres import running, short_folder

ACCESS = (
    "SELECT relname, relrowsecurity, ARRAY(SELECT unnest(relacl)::text ORDER BY 1) FROM pg_class "
    "WHERE relnamespace = 'ops'::regnamespace AND relkind IN ('r', 'v', 'S') ORDER BY 1",
    "SELECT attname, attacl::text FROM pg_attribute WHERE attrelid = 'ops.runs'::regclass AND attacl <> '{}'",
    "SELECT polrelid::regclass::text, polname, polcmd, ARRAY(SELECT unnest(polroles)::regrole::text ORDER BY 1), "
    "pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) FROM pg_policy ORDER BY 1, 2",
    "SELECT ARRAY(SELECT unnest(nspacl)::text ORDER BY 1) FROM pg_namespace WHERE nspname = 'ops'",
    "SELECT defaclobjtype, ARRAY(SELECT unnest(defaclacl)::text ORDER BY 1) FROM pg_default_acl ORDER BY 1",
    "SELECT proname, ARRAY(SELECT unnest(proacl)::text ORDER BY 1) FROM pg_proc "
    "WHERE pronamespace = 'ops'::regnamespace ORDER BY 1",
    "SELECT ARRAY(SELECT unnest(datacl)::text ORDER BY 1) FROM pg_database WHERE datname = current_database()",
    "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1",
)
FUTURE = "ALTER DEFAULT PRIVILEGES FOR ROLE ops_owner IN SCHEMA ops"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A superuser's URL of a database that `room` owns, and to which PUBLIC may not connect."""
    with short_folder() as folder, running(folder, hba="local all all trust\n") as url:
        with psycopg.connect(url.format(database="postgres"), autocommit=True) as db:
            db.execute("CREATE ROLE room LOGIN CREATEROLE")
            db.execute("CREATE ROLE neighbour LOGIN")
            db.execute("CREATE DATABASE opsroom OWNER room TEMPLATE template0")
            db.execute("REVOKE CONNECT ON DATABASE opsroom FROM PUBLIC")
        yield url.format(database="opsroom")


@pytest.fixture
def room(server: str, tmp_path: Path) -> Settings:
    """Settings of a room there, which is not upgraded."""
    return Settings(home=tmp_path, database_url=SecretStr(server.replace("postgres@", "room@")))


@pytest.fixture
def repaired(room: Settings) -> Settings:
    """The same, with all its roles and rights."""
    upgrade(room)
    repair_roles(room, dry=False)
    return room


def execute(server: str, *statements: str) -> None:
    with psycopg.connect(server, autocommit=True) as db:
        for statement in statements:
            db.execute(statement.encode())


def access(server: str) -> list[list[Any]]:
    with psycopg.connect(server) as db:
        return [db.execute(query.encode()).fetchall() for query in ACCESS]


def test_roles_come_before_the_schema_and_their_rights_with_it(room: Settings, server: str) -> None:
    planned = repair_roles(room, dry=True)
    assert ("CREATE ROLE supabase_admin NOLOGIN" in planned.statements, planned.has_schema) == (True, False)
    with psycopg.connect(server) as db:
        assert db.execute("SELECT FROM pg_roles WHERE rolname = ANY(%s)", [list(ROLES)]).rowcount == 0
    assert repair_roles(room, dry=False) == planned
    assert repair_roles(room, dry=False) == ([], False)
    upgrade(room)
    planned = repair_roles(room, dry=True)
    assert all("supabase_admin" in statement for statement in planned.statements)
    assert repair_roles(room, dry=False) == planned
    assert repair_roles(room, dry=False) == ([], True)


def test_upgrade_gives_nothing_to_a_role_that_only_has_the_name() -> None:
    with short_folder() as folder, running(folder) as url:
        room = Settings(home=folder, database_url=SecretStr(url.format(database="postgres")))
        execute(room.ops_url, "CREATE ROLE supabase_admin LOGIN SUPERUSER")
        upgrade(room)
        with psycopg.connect(room.ops_url) as db:
            held = "SELECT count(*) FROM pg_shdepend WHERE refobjid = 'supabase_admin'::regrole"
            assert db.execute(held.encode()).fetchone() == (0,)


@pytest.mark.parametrize(
    "damage",
    [
        "REVOKE SELECT ON ops.runs FROM superset_ro",
        "REVOKE ALL ON ALL TABLES IN SCHEMA ops FROM ops_writer, ops_monitor, superset_ro, supabase_admin",
        "REVOKE ALL ON ALL SEQUENCES IN SCHEMA ops FROM supabase_admin",
        "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ops FROM supabase_admin",
        "REVOKE USAGE ON SCHEMA ops FROM ops_writer, ops_monitor, superset_ro, supabase_admin",
        "REVOKE CONNECT ON DATABASE opsroom FROM ops_monitor",
        f"{FUTURE} REVOKE SELECT ON TABLES FROM superset_ro",
        f"{FUTURE} REVOKE ALL ON SEQUENCES FROM supabase_admin",
        f"{FUTURE} GRANT UPDATE ON TABLES TO superset_ro",
        "GRANT UPDATE ON ops.runs TO superset_ro",
        "GRANT SELECT ON ops.step_results TO ops_monitor",
        "GRANT UPDATE (priority), INSERT (id) ON ops.runs TO ops_monitor",
        "GRANT CREATE ON SCHEMA ops TO superset_ro",
        "GRANT TRIGGER ON ops.runs TO supabase_admin",
        "GRANT USAGE ON SEQUENCE ops.prunes_id_seq TO ops_monitor",
        "GRANT SELECT ON ops.runs TO superset_ro WITH GRANT OPTION",
        "GRANT SELECT (id) ON ops.runs TO ops_monitor WITH GRANT OPTION",
        f"{FUTURE} GRANT SELECT ON TABLES TO superset_ro WITH GRANT OPTION",
        "GRANT SELECT ON ops.runs TO supabase_admin WITH GRANT OPTION; SET ROLE supabase_admin; "
        "GRANT SELECT ON ops.runs TO neighbour; RESET ROLE",
        "DROP POLICY readers ON ops.runs",
        "DROP POLICY room ON ops.step_results",
        "ALTER POLICY room ON ops.runs TO ops_writer",
        "ALTER POLICY readers ON ops.room_locks TO superset_ro",
        "CREATE POLICY readers ON ops.step_results FOR SELECT TO superset_ro USING (true)",
        "ALTER TABLE ops.runs DISABLE ROW LEVEL SECURITY",
    ],
)
def test_what_is_missing_comes_back_and_what_is_beyond_goes(repaired: Settings, server: str, damage: str) -> None:
    before = access(server)
    execute(server, damage)
    damaged = access(server)
    assert damaged != before
    planned = repair_roles(repaired, dry=True).statements
    assert planned
    assert access(server) == damaged
    assert repair_roles(repaired, dry=False).statements == planned
    assert access(server) == before
    assert repair_roles(repaired, dry=False).statements == []


def test_upgrade_repairs_rights_as_well_and_makes_no_role_for_supabase() -> None:
    with short_folder() as folder, running(folder) as url:
        room = Settings(home=folder, database_url=SecretStr(url.format(database="postgres")))
        upgrade(room)
        before = access(room.ops_url)
        execute(room.ops_url, "REVOKE ALL ON ops.runs FROM superset_ro", "DROP POLICY readers ON ops.runs")
        upgrade(room)
        assert access(room.ops_url) == before
        assert "supabase_admin" not in str(before)


def test_what_is_made_later_has_rights_at_once_and_policies_with_the_next_upgrade(
    repaired: Settings, server: str
) -> None:
    execute(
        server,
        "SET ROLE ops_owner; CREATE TABLE ops.later (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY); "
        "CREATE VIEW ops.later_view AS SELECT * FROM ops.later; INSERT INTO ops.later DEFAULT VALUES",
    )
    wanted = {"ops_writer": "SIUD", "ops_monitor": "S", "superset_ro": "S", "supabase_admin": "SIUDT"}
    verbs = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "REFERENCES")
    try:
        with psycopg.connect(server, autocommit=True) as db:

            def rights(relation: str) -> dict[str, str]:
                asked = b"SELECT has_table_privilege(%s, %s, %s)"
                return {
                    role: "".join(
                        verb[0] for verb in verbs if db.execute(asked, [role, relation, verb]).fetchone() == (True,)
                    )
                    for role in ROLES
                }

            assert rights("ops.later") == wanted
            assert upgrade(repaired)
            assert rights("ops.later_view") == {**dict.fromkeys(ROLES, "S"), "ops_writer": ""}
            for role in ROLES:
                db.execute(f"SET ROLE {role}".encode())
                assert db.execute("SELECT count(*) FROM ops.later").fetchone() == (1,)
                db.execute("RESET ROLE")
    finally:
        execute(server, "DROP TABLE ops.later CASCADE")


def test_rights_of_other_roles_stay(repaired: Settings, server: str) -> None:
    execute(
        server,
        "GRANT USAGE ON SCHEMA ops TO neighbour",
        "GRANT SELECT ON ops.runs TO neighbour",
        "ALTER POLICY readers ON ops.runs TO neighbour, superset_ro",
    )
    try:
        policy = "ALTER POLICY readers ON ops.runs TO ops_monitor, superset_ro, neighbour"
        assert repair_roles(repaired, dry=False).statements == [policy]
        assert repair_roles(repaired, dry=False).statements == []
        with psycopg.connect(server) as db:
            assert db.execute("SELECT has_table_privilege('neighbour', 'ops.runs', 'SELECT')").fetchone() == (True,)
    finally:
        execute(server, "ALTER POLICY readers ON ops.runs TO ops_monitor, superset_ro", "DROP OWNED BY neighbour")


def test_who_holds_a_table_up_is_named_and_nothing_is_changed(
    repaired: Settings, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = access(server)
    execute(server, "ALTER POLICY readers ON ops.runs TO ops_monitor", "REVOKE SELECT ON ops.runs FROM superset_ro")
    damaged = access(server)
    monkeypatch.setattr(migrate, "TABLE_SECONDS", 0.3)
    with psycopg.connect(server) as holder:
        holder.execute("SELECT * FROM ops.runs")
        pid = holder.info.backend_pid
        with pytest.raises(
            OpsError, match=rf"could not be repaired, and nothing was changed: .* pid {pid}\) holds a lock"
        ):
            repair_roles(repaired, dry=False)
        assert access(server) == damaged
    assert repair_roles(repaired, dry=False).statements
    assert access(server) == before


@pytest.mark.parametrize(
    ("power", "end", "words"),
    [
        (
            "ALTER ROLE supabase_admin SUPERUSER",
            "ALTER ROLE supabase_admin NOSUPERUSER",
            "supabase_admin .* has SUPERUSER: .* NOSUPERUSER",
        ),
        ("ALTER ROLE ops_monitor BYPASSRLS", "ALTER ROLE ops_monitor NOBYPASSRLS", "role ops_monitor .* NOBYPASSRLS"),
        ("ALTER ROLE ops_writer CREATEROLE", "ALTER ROLE ops_writer NOCREATEROLE", "role ops_writer .* NOCREATEROLE"),
        (
            "GRANT pg_read_all_data TO supabase_admin",
            "REVOKE pg_read_all_data FROM supabase_admin",
            "supabase_admin .* member of pg_read_all_data, .* REVOKE pg_read_all_data FROM supabase_admin",
        ),
    ],
)
def test_role_that_may_more_than_the_room_gives_is_refused(
    repaired: Settings, server: str, power: str, end: str, words: str
) -> None:
    execute(server, power, "REVOKE SELECT ON ops.runs FROM superset_ro")
    damaged = access(server)
    try:
        with pytest.raises(UsageError, match=words):
            repair_roles(repaired, dry=False)
        assert access(server) == damaged
    finally:
        execute(server, end)
    assert repair_roles(repaired, dry=False).statements == ["GRANT SELECT ON TABLE ops.runs TO superset_ro"]


def test_login_that_may_not_make_roles_is_told_so_and_changes_nothing(repaired: Settings, server: str) -> None:
    before = access(server)
    plain = repaired.model_copy(update={"database_url": SecretStr(server.replace("postgres@", "neighbour@"))})
    execute(server, "GRANT CONNECT ON DATABASE opsroom TO neighbour")
    try:
        with pytest.raises(OpsError, match=r"permission denied .* needs CREATEROLE"):
            repair_roles(plain, dry=False)
        assert "GRANT ops_owner TO CURRENT_USER" in repair_roles(plain, dry=True).statements
    finally:
        execute(server, "REVOKE CONNECT ON DATABASE opsroom FROM neighbour")
    assert access(server) == before


def test_schema_of_another_revision_is_refused(repaired: Settings, server: str) -> None:
    execute(server, "UPDATE ops.alembic_version SET version_num = '0001'")
    try:
        for dry in (True, False):
            with pytest.raises(UsageError, match="at revision 0001"):
                repair_roles(repaired, dry=dry)
    finally:
        execute(server, f"UPDATE ops.alembic_version SET version_num = '{head()}'")
