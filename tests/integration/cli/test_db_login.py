"""Logins of the ops database, by real logins over the port that OPS_DATABASE_LISTEN opens, and on one's own server."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from deployments.room.databases import upgrade_databases
from opsdb.migrate import create_database
from opsdb.settings import Settings
from tests.integration.cli.conftest import Ops
from tests.support.children import free_port
from tests.support.postgres import running, short_folder


@pytest.fixture(scope="module")
def room() -> Iterator[Settings]:
    """The settings of a room whose embedded PostgreSQL runs and answers on a port."""
    with short_folder() as folder:
        port = free_port()
        with running(folder, listen=("127.0.0.1", port)) as url:
            create_database(url.format(database="postgres"), "ops")
            made = Settings(home=folder, database_listen=f"127.0.0.1:{port}", prefect_database="ops")
            upgrade_databases(made)
            yield made


@pytest.fixture
def settings(room: Settings) -> Settings:
    return room


@pytest.fixture
def desk(ops: Ops, room: Settings, monkeypatch: pytest.MonkeyPatch) -> Ops:
    """The command line of that room."""
    monkeypatch.delenv("OPS_DATABASE_URL")
    monkeypatch.setenv("OPS_DATABASE_LISTEN", room.database_listen or "")
    return ops


def enter(room: Settings, name: str, password: str, *, database: str = "ops") -> psycopg.Connection[tuple[object, ...]]:
    host, port = room.database_address or ("", 0)
    return psycopg.connect(
        host=host, port=port, user=name, password=password, dbname=database, require_auth="scram-sha-256"
    )


def made(desk: Ops, name: str, *options: str) -> str:
    """The password of a login that was made."""
    code, out, err = desk("db", "login", name, *options)
    assert code == 0, err
    return out.strip()


def test_login_reads_by_its_password_and_changes_nothing(desk: Ops, room: Settings) -> None:
    code, out, err = desk("db", "login", "superset", "--role", "superset_ro")
    assert code == 0
    assert f"postgresql://superset@{room.database_listen}/ops?require_auth=scram-sha-256" in err
    assert out.strip() not in err
    with enter(room, "superset", out.strip()) as db:
        assert db.execute("SELECT total_runs FROM ops.success_rate_24h").fetchone() == (0,)
        assert db.execute("SHOW transaction_read_only").fetchone() == ("on",)
    for forbidden in ("UPDATE ops.runs SET priority = 1", "CREATE TABLE ops.mine (x int)", "SET ROLE ops_writer"):
        with enter(room, "superset", out.strip()) as db:
            db.execute("SET transaction_read_only = off")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(forbidden.encode())
    for wrong in ("", out.strip() + "x", "superset"):
        with pytest.raises(psycopg.OperationalError, match=r"password authentication failed|no password supplied"):
            enter(room, "superset", wrong)
    assert desk("db", "login", "superset", "--remove")[0] == 0


def test_nobody_else_comes_in_by_the_port(desk: Ops, room: Settings) -> None:
    password = made(desk, "reader")
    with psycopg.connect(room.ops_url, autocommit=True) as admin:
        admin.execute(f"ALTER ROLE postgres PASSWORD '{password}'".encode())
        admin.execute(f"CREATE ROLE stranger LOGIN PASSWORD '{password}'".encode())
        admin.execute("CREATE ROLE boss SUPERUSER LOGIN")
        admin.execute(
            f"CREATE ROLE writes_as_well LOGIN PASSWORD '{password}' IN ROLE superset_ro, ops_writer".encode()
        )
        wrong = [(name, "ops") for name in ("postgres", "stranger", "boss", "writes_as_well")]
        try:
            for name, database in [*wrong, ("reader", "postgres")]:
                with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry|rejects connection"):
                    enter(room, name, password, database=database)
        finally:
            admin.execute("ALTER ROLE postgres PASSWORD NULL")
            admin.execute("DROP ROLE stranger")
            admin.execute("DROP ROLE boss")
            admin.execute("DROP ROLE writes_as_well")
    enter(room, "reader", password).close()
    assert desk("db", "login", "reader", "--remove")[0] == 0


def test_password_is_replaced_listed_nowhere_and_ends_with_the_login(
    desk: Ops, room: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(desk, "grafana", "--role", "ops_monitor")
    code, _, err = desk("db", "login", "grafana")
    assert (code, "`ops db login grafana --new`" in err) == (2, True)
    second = made(desk, "grafana", "--new")
    assert first != second
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        enter(room, "grafana", first)
    own = "correct horse battery staple"
    monkeypatch.setattr("sys.stdin", io.StringIO(own + "\n"))
    code, out, err = desk("db", "login", "grafana", "--new", "--password-stdin")
    assert (code, out) == (0, "")
    assert own not in err
    with enter(room, "grafana", own) as held:
        document = json.loads(desk("db", "logins", "--json")[1])
        assert document == [{"name": "grafana", "roles": ["ops_monitor"], "proof": "password", "connections": 1}]
        assert "grafana" in desk("db", "logins")[1]
        assert desk("db", "login", "grafana", "--remove")[0] == 0
        with pytest.raises(psycopg.OperationalError):
            held.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        enter(room, "grafana", own)
    assert "No logins" in desk("db", "logins")[1]
    log = (room.home / "postgres.log").read_text()
    assert not any(password in log for password in (first, second, own))


@pytest.mark.parametrize(
    ("arguments", "typed", "words"),
    [
        (("Superset",), "", "'Superset' cannot be a login here"),
        (("postgres",), "", "'postgres' cannot be a login here"),
        (("ops_owner", "--remove"), "", "'ops_owner' is not a login that the room made"),
        (("superset_ro",), "", "superset_ro is a role of the room: choose another name"),
        (("supabase_admin",), "", "supabase_admin is a role of the room: choose another name"),
        (("nobody", "--new"), "", "'nobody' is not a login that the room made"),
        (("superset", "--role", "ops_owner"), "", "choose from ops_monitor, superset_ro, ops_writer, supabase_admin"),
        (("worker", "--role", "ops_writer"), "", "admits only logins that read, and ops_writer writes. Hint: "),
        (
            ("supabase", "--role", "supabase_admin"),
            "",
            "admits only logins that read, and supabase_admin writes. Hint: ",
        ),
        (("superset", "--certificate"), "", "admits logins by their password alone. Hint: "),
        (("superset", "--certificate", "--new"), "", "leave out --new"),
        (("superset", "--certificate", "--password-stdin"), "", "leave out --new, --remove, --password-stdin"),
        (("superset", "--role", "superset_ro", "--new"), "", "choose one of them"),
        (("superset", "--password-stdin"), "short\n", "at least 16 printable characters"),
        (("superset", "--password-stdin"), "", "at least 16 printable characters"),
    ],
)
def test_wrong_login_is_one_line(
    desk: Ops, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], typed: str, words: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    code, _, err = desk("db", "login", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert words in err
    assert "No logins" in desk("db", "logins")[1]


def test_socket_keeps_its_name_whatever_the_port(room: Settings) -> None:
    socket = room.socket_dir / ".s.PGSQL.5432"
    assert socket.is_symlink()
    assert Path(socket.parent, socket.readlink()).is_socket()
    with psycopg.connect(room.ops_url) as db:
        assert db.execute("SHOW port").fetchone() == ((room.database_listen or "").rpartition(":")[2],)


def test_login_of_a_server_of_ones_own_that_may_not_make_any_says_which_right_it_lacks(
    ops: Ops, room: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(room.ops_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE plain LOGIN IN ROLE superset_ro")
        try:
            url = room.ops_url.replace("postgres@", "plain@")
            monkeypatch.setenv("OPS_DATABASE_URL", SecretStr(url).get_secret_value())
            code, _, err = ops("db", "login", "superset")
        finally:
            admin.execute("DROP ROLE plain")
    assert code == 2
    assert "CREATEROLE" in err


def test_login_of_a_server_of_ones_own_with_createrole_makes_and_removes_others(
    ops: Ops, room: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(room.ops_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE keeper LOGIN CREATEROLE")
        admin.execute("GRANT superset_ro TO keeper WITH ADMIN OPTION")
        try:
            monkeypatch.setenv("OPS_DATABASE_URL", room.ops_url.replace("postgres@", "keeper@"))
            password = made(ops, "superset")
            with enter(room, "superset", password) as held:
                code, _, err = ops("db", "login", "superset", "--remove")
                assert code == 0, err
                with pytest.raises(psycopg.OperationalError):
                    held.execute("SELECT 1")
            assert "No logins" in ops("db", "logins")[1]
        finally:
            admin.execute("DROP ROLE IF EXISTS superset")
            admin.execute("DROP OWNED BY keeper")
            admin.execute("DROP ROLE keeper")


def test_login_that_writes_or_shows_a_certificate_is_made_on_a_server_of_ones_own(
    ops: Ops, room: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(room.ops_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE keeper LOGIN CREATEROLE")
        admin.execute("GRANT ops_owner, ops_writer, ops_monitor TO keeper WITH ADMIN OPTION")
        monkeypatch.setenv("OPS_DATABASE_URL", room.ops_url.replace("postgres@", "keeper@"))
        try:
            code, _, err = ops("db", "login", "supabase", "--role", "supabase_admin")
            assert (code, "no role supabase_admin yet. Hint: `ops db roles` makes it" in err) == (2, True)
            assert ops("db", "roles")[0] == 0
            made(ops, "supabase", "--role", "supabase_admin")
            code, out, err = ops("db", "login", "worker2", "--role", "ops_writer", "--certificate")
            assert (code, out) == (0, "")
            assert "`ops render pg-hba --set logins=worker2@ADDRESS@certificate` writes such a line" in err
            code, _, err = ops("db", "login", "worker2", "--new")
            assert (code, "has no password to replace" in err) == (2, True)
            shown = [line.split() for line in ops("db", "logins")[1].splitlines()[1:]]
            assert shown == [
                ["supabase", "supabase_admin", "password", "0"],
                ["worker2", "ops_writer", "certificate", "0"],
            ]
            found = admin.execute(
                "SELECT a.rolname, a.rolpassword IS NULL, a.rolconnlimit, r.rolconfig IS NULL FROM pg_authid a "
                "JOIN pg_roles r USING (rolname) WHERE rolname IN ('supabase', 'worker2') ORDER BY 1"
            ).fetchall()
            assert found == [("supabase", False, 30, True), ("worker2", True, -1, True)]
            for name in ("supabase", "worker2"):
                assert ops("db", "login", name, "--remove")[0] == 0
        finally:
            for name in ("supabase", "worker2", "supabase_admin", "keeper"):
                if admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).rowcount:
                    admin.execute(f"DROP OWNED BY {name} CASCADE".encode())
                    admin.execute(f"DROP ROLE {name}".encode())
