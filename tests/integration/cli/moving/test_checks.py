"""What a restore refuses before it changes anything, on a real server that is not the room's own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from cli.moving import databases, restore
from cli.moving.archive import Manifest
from cli.moving.checks import OPS, check_rights, check_same, check_server, check_target, in_effect_after, place_of
from cli.moving.databases import connected, snapshots
from cli.moving.roles import RESTORED, RoomRole, check_takeable, make_roles, read_roles
from deployments.room.restoring import Begun, read_begun, staging, write_begun
from opsdb.database import connect
from opsdb.errors import OpsError, UsageError
from opsdb.settings import Settings

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def manifest_of(**changes: object) -> Manifest:
    versions = dict.fromkeys(("ops_version", "prefect_version", "server_version", "pg_dump_version"), "16.1")
    times = dict.fromkeys(("created_at", "ops_snapshot_at", "prefect_snapshot_at"), NOW)
    more = {"unfinished": {}, "entries": ["ops.toml"], "left": {}, "environment": [], "database_bytes": 5, "parts": []}
    given = {"id": UUID(int=7), "host": "alpha", "home": "/opt", "schema_revision": "0001", "room_ran": True}
    return Manifest.model_validate({**given, **versions, **times, **more, **changes})


def begun_of(settings: Settings, **changes: object) -> Begun:
    given = {"archive": UUID(int=7), "file": "x", "begun_at": NOW, "stamp": "s", "replaced": [], "room": UUID(int=8)}
    settled = {"take_over": True, "prefect_database": "prefect", "server": place_of(settings), "keeps_settings": False}
    return Begun.model_validate({**given, **settled, **changes})


@pytest.fixture
def alone(settings: Settings) -> Settings:
    """A room whose record has a database of its own, and whose Prefect database is missing."""
    settings.home.mkdir(mode=0o700, parents=True)
    return settings.model_copy(update={"prefect_database": "prefect_of_a_restore"})


@pytest.fixture
def server(alone: Settings) -> Iterator[psycopg.Connection]:
    """Where roles of these tests are made, and gone after each."""
    with psycopg.connect(alone.ops_url, autocommit=True) as db:
        yield db
        for (name,) in db.execute("SELECT rolname FROM pg_roles WHERE starts_with(rolname, 'moving_')").fetchall():
            db.execute(sql.SQL("DROP OWNED BY {0}").format(sql.Identifier(name)))
            db.execute(sql.SQL("DROP ROLE {0}").format(sql.Identifier(name)))


def role(name: str, **changes: object) -> RoomRole:
    given = {"login": True, "inherit": True, "connections": -1, "valid_until": None, "password": None, "comment": None}
    return RoomRole(**{"name": name, **given, "settings": [], "memberships": [], **changes})  # type: ignore[arg-type]


def test_database_that_the_record_shares_with_other_programs_is_not_renamed(alone: Settings) -> None:
    assert check_target(alone, manifest_of(), [], replace=True)[OPS]
    with psycopg.connect(alone.ops_url, autocommit=True) as db:
        db.execute("CREATE TABLE public.res_partner (id int)")
        with pytest.raises(
            UsageError, match=r"holds more than the room \(the schema public\).*ALTER SCHEMA ops RENAME"
        ):
            check_target(alone, manifest_of(), [], replace=True)
        db.execute(f"COMMENT ON DATABASE {db.info.dbname} IS 'made by the Ops Control Room'")
    assert check_target(alone, manifest_of(), [], replace=True)[OPS]


def test_tables_of_other_programs_are_not_counted_as_the_rooms(alone: Settings) -> None:
    same = alone.model_copy(update={"prefect_database": databases.ops_database(alone)})
    with psycopg.connect(alone.ops_url, autocommit=True) as db:
        db.execute("CREATE TABLE public.res_partner AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
    with snapshots(same) as (ops, prefect):
        assert ops.table_bytes < 10_000_000 < prefect.table_bytes


def test_names_of_databases_are_those_of_the_old_rooms_settings_file(alone: Settings) -> None:
    held = manifest_of(settings_file='home = "."\nprefect_database = "prefect_of_old"\n')
    assert in_effect_after(alone, held, name="it").prefect_database == "prefect_of_old"
    (alone.home / "ops.toml").write_text("")
    assert in_effect_after(alone, held, name="it") is alone


@pytest.mark.parametrize(
    ("line", "words"),
    [('home = "/opt/old/.ops"', "line 1: it leads to /opt/old/.ops"), ('prefect_database = "A B"', "prefect_database")],
)
def test_settings_of_the_old_room_that_cannot_work_here_are_refused_by_name(
    alone: Settings, line: str, words: str
) -> None:
    with pytest.raises(UsageError, match=f"settings file in it cannot work here: .*{words}.*put an ops.toml"):
        in_effect_after(alone, manifest_of(settings_file=line), name="it")


def test_listening_database_of_the_old_room_is_refused_where_the_server_is_another(
    alone: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPS_DATABASE_URL", alone.ops_url)
    with pytest.raises(UsageError, match="cannot work here: OPS_DATABASE_LISTEN"):
        in_effect_after(alone, manifest_of(settings_file='database_listen = "127.0.0.1:5433"'), name="it")


def test_restore_goes_on_only_on_the_server_where_it_began(alone: Settings) -> None:
    check_same(begun_of(alone), manifest_of(), alone, take_over=True)
    embedded = Settings(home=alone.home)
    with pytest.raises(UsageError, match=r"began with .*room_\d+, and now the settings name the embedded PostgreSQL"):
        check_same(begun_of(alone), manifest_of(), embedded, take_over=True)


def test_rights_that_a_restore_needs_are_named(alone: Settings, server: psycopg.Connection) -> None:
    server.execute("CREATE ROLE moving_room LOGIN")
    url = make_conninfo(alone.ops_url, user="moving_room")
    assert "moving_room" in url
    weak = alone.model_copy(update={"database_url": SecretStr(alone.ops_url.replace("postgres@", "moving_room@"))})
    lacking = "moving_room here lacks .*CREATEROLE.*CREATEDB, to rename .*to own the database .*CREATEDB, to make the"
    with pytest.raises(UsageError, match=lacking):
        check_rights(weak, {"ops": True, "prefect": False}, roles=True)


def test_roles_that_no_room_made_are_not_taken_over(alone: Settings, server: psycopg.Connection) -> None:
    server.execute("CREATE ROLE moving_odoo LOGIN; CREATE ROLE moving_root SUPERUSER; CREATE ROLE moving_login")
    server.execute("COMMENT ON ROLE moving_login IS 'login made by the Ops Control Room'")
    names = ["moving_login", "moving_new", "moving_odoo", "moving_root"]
    with connected(alone, "postgres") as db:
        with pytest.raises(
            UsageError, match=r"change: moving_odoo \(not made by a room\), moving_root \(a superuser\)\. "
        ):
            check_takeable(db, names, known=["moving_root"])
        check_takeable(db, names[:3], known=["moving_odoo"])
        make_roles(db, [role("moving_new")])
        assert db.execute("SELECT shobj_description('moving_new'::regrole, 'pg_authid')").fetchone() == (RESTORED,)
        check_takeable(db, names[:2], known=[])
    with pytest.raises(UsageError, match="moving_odoo"):
        check_target(alone, manifest_of(roles=names[2:3]), [], replace=True)


def test_superuser_and_room_login_with_rights_become_roles_without_login(
    alone: Settings, server: psycopg.Connection
) -> None:
    server.execute("CREATE ROLE moving_boss SUPERUSER LOGIN PASSWORD 'of the old server'")
    server.execute("CREATE ROLE moving_more; ALTER DEFAULT PRIVILEGES FOR ROLE ops_owner IN SCHEMA ops "
                   "GRANT SELECT ON TABLES TO moving_more")  # fmt: skip
    server.execute("GRANT SELECT ON ops.runs TO moving_boss")
    with connected(alone, databases.ops_database(alone)) as db:
        found = {one.name: one for one in read_roles(db, superuser=True)}
    assert (found["moving_boss"].bare, found["moving_boss"].login, found["moving_boss"].password) == (True, False, None)
    assert not found["moving_more"].bare
    server.execute("ALTER ROLE moving_boss CONNECTION LIMIT 3")
    make_roles(server, [found["moving_boss"]])
    there = server.execute("SELECT rolsuper, rolcanlogin, rolconnlimit FROM pg_roles WHERE rolname = 'moving_boss'")
    assert there.fetchone() == (True, True, 3)


def test_room_that_works_on_these_databases_is_named(alone: Settings) -> None:
    check_server(alone, manifest_of(), name="it")
    engine = connect(alone, application="sync")
    try:
        with engine.connect(), pytest.raises(UsageError, match=r"connected .*: ops sync \(role postgres, .*`ops down`"):
            check_server(alone, manifest_of(), name="it")
    finally:
        engine.dispose()


@pytest.mark.parametrize("renamed", [False, True])
def test_restore_that_failed_is_given_up_while_nothing_was_renamed(
    alone: Settings, server: psycopg.Connection, renamed: bool
) -> None:
    staging(alone.home).mkdir(mode=0o700)
    begun = begun_of(alone, replaced=["ops"], stamp="s")
    write_begun(alone.home, begun)
    aside = f"{databases.ops_database(alone)}_before_s"
    if renamed:
        server.execute(f"CREATE DATABASE {aside}")
    error = restore._stopped(alone, begun, OpsError("the disk is full"))
    assert ("is given up: nothing was renamed" in str(error), read_begun(alone.home) is None) == (not renamed,) * 2
    server.execute(f"DROP DATABASE IF EXISTS {aside}")
