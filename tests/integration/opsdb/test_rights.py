"""What each role may do with each object, tried by real logins: by a password, and over TLS with a certificate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors
from pydantic import SecretStr
from sqlalchemy import make_url, text

from deployments.hosting.pg_hba import FILE, PG_HBA, PgHbaValues
from deployments.hosting.template import render
from deployments.room.databases import prepare_databases
from opsdb.database import connect
from opsdb.logins import make_login, remove_login
from opsdb.migrate import check_migrated, repair_roles
from opsdb.public_access import maintaining
from opsdb.runs.runs import RunFacts, apply_states
from opsdb.settings import Settings
from opsdb.states import State
from opsdb.tables import Lane
from tests.integration.opsdb.rights_expected import BESIDE, NOBODY_MAY, OBJECTS, ROLES, Objects
from tests.support.certificates import make_authority
from tests.support.children import free_port
from tests.support.postgres import running, short_folder
from tests.support.tls_servers import ADDRESS, TlsServer, tls_server

PASSWORD = "correct-horse-battery-7Q"
OPS, PREFECT, ODOO = "odoo_prod", "prefect_of_room", "odoo_other"
"""The room's schema stands beside the tables of an Odoo, as in the deployment guide; there is another Odoo."""
PROOFS = ("password", "certificate")
ODOOS = """
CREATE TABLE res_partner (id serial PRIMARY KEY, name text);
INSERT INTO res_partner (name) VALUES ('a customer');
CREATE VIEW res_partner_view AS SELECT * FROM res_partner;
ALTER TABLE res_partner OWNER TO odoo;
ALTER VIEW res_partner_view OWNER TO odoo;
"""
WITHOUT_TLS = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
OWN_CODE = "suppress_redundant_updates_trigger()"
EMBEDDED = "embedded"
Db = psycopg.Connection[Any]


@dataclass(frozen=True)
class Site:
    """A server with a room, an Odoo beside it, and a login of each role for each proof of `proofs`."""

    socket: str
    """A superuser's URL with `{database}` in it."""
    tcp: str
    """A URL with `{login}` and `{database}` in it, without a password."""
    room: Settings
    proofs: tuple[str, ...]
    tls: TlsServer | None = None

    def enter(self, role: str, proof: str, *, database: str = OPS, **changes: str) -> Db:
        """Connect as the login of that role."""
        login = login_name(role, proof)
        given: dict[str, Any] = {"passfile": "/nonexistent"} | ({"password": PASSWORD} if proof == "password" else {})
        if self.tls and proof == "certificate":
            cert = self.tls.authority.folder / f"{login}.pem"
            given |= {"sslcert": str(cert), "sslkey": str(cert.with_suffix(".key"))}
        db = psycopg.connect(self.tcp.format(login=login, database=database), **(given | changes), autocommit=True)
        db.execute("SET default_transaction_read_only = off")  # which everybody may: it is no right
        return db


def login_name(role: str, proof: str) -> str:
    return f"{role.removeprefix('ops_')}_by_{proof}"


@pytest.fixture(scope="module", params=[EMBEDDED, *(pytest.param(major, marks=pytest.mark.gate) for major in (16, 18))])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """The embedded server's programs with logins by password, and other versions over TLS."""
    with short_folder() as folder, serving(folder, request.param) as (socket, tcp, tls):
        room = make_room(socket, folder)
        proofs = PROOFS if tls else PROOFS[:1]
        with maintaining(socket.format(database="postgres"), OPS) as db:
            for role in ROLES:
                for proof in proofs:
                    password = PASSWORD if proof == "password" else None
                    make_login(db, login_name(role, proof), role=role, password=password)
        yield Site(socket, tcp, room, proofs, tls)


@contextmanager
def serving(folder: Path, version: int | str) -> Iterator[tuple[str, str, TlsServer | None]]:
    if version == EMBEDDED:
        port = free_port()
        with running(folder, hba=WITHOUT_TLS, listen=(ADDRESS, port)) as socket:
            yield socket, f"postgresql://{{login}}@{ADDRESS}:{port}/{{database}}", None
        return
    names = [(login_name(role, proof), proof) for role in ROLES for proof in PROOFS]
    logins = [{"login": name, "addresses": [f"{ADDRESS}/32"], "proof": proof} for name, proof in names]
    values = {"logins": logins, "database": OPS, "prefect_database": PREFECT}
    lines = render(PG_HBA, PgHbaValues.model_validate(values))[FILE]
    with tls_server(int(version), folder, hba=lines) as tls:
        for name, _ in names:
            tls.authority.issue(name)
        yield tls.socket, tls.url("{login}"), tls


def make_room(socket: str, folder: Path) -> Settings:
    """A room by a login that is no superuser, on a server that somebody else administers."""
    with psycopg.connect(socket.format(database="postgres"), autocommit=True) as db:
        db.execute("CREATE ROLE room LOGIN CREATEROLE CREATEDB")
        db.execute("CREATE ROLE odoo")
        db.execute(f"CREATE DATABASE {OPS} OWNER room TEMPLATE template0".encode())
        db.execute(f"REVOKE CONNECT, TEMPORARY ON DATABASE {OPS} FROM PUBLIC".encode())
        db.execute(f"CREATE DATABASE {ODOO} TEMPLATE template0".encode())
        db.execute(f"REVOKE TEMPORARY ON DATABASE {ODOO} FROM PUBLIC".encode())
    for database in (OPS, ODOO):
        with psycopg.connect(socket.format(database=database), autocommit=True) as db:
            db.execute(ODOOS.encode())
    url = make_url(socket.format(database=OPS)).set(username="room").render_as_string(hide_password=False)
    room = Settings(home=folder, database_url=SecretStr(url), prefect_database=PREFECT)
    prepare_databases(room)
    repair_roles(room, dry=False)
    return room


def may(db: Db, statement: str, *, though: tuple[type[psycopg.Error], ...] = ()) -> bool:
    """Whether a statement is executed, or fails by what PostgreSQL looks at after the rights alone."""
    try:
        with db.transaction(force_rollback=True):
            db.execute(statement.encode())
    except errors.InsufficientPrivilege:
        return False
    except though:
        return True
    return True


def sees_rows(db: Db, statement: str) -> bool:
    """Whether a policy shows it rows: without one, the plan is that there is none."""
    plan = db.execute(f"EXPLAIN {statement}".encode()).fetchall()
    return not any("One-Time Filter: false" in line for (line,) in plan)


def table_verbs(db: Db, table: str) -> Iterator[str]:
    row = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attidentity = '' LIMIT 1"
    (column,) = db.execute(row.encode(), [table]).fetchone() or ("",)
    changes = {
        "S": f"SELECT * FROM {table}",
        "U": f'UPDATE {table} SET "{column}" = "{column}"',
        "D": f"DELETE FROM {table}",
    }
    yield from (verb for verb, statement in changes.items() if may(db, statement) and sees_rows(db, statement))
    if may(db, f"INSERT INTO {table} DEFAULT VALUES", though=(errors.NotNullViolation,)):
        yield "I"
    if may(db, f"TRUNCATE {table}", though=(errors.FeatureNotSupported,)):
        yield "T"
    if may(db, f"CREATE TRIGGER mine BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {OWN_CODE}"):
        yield "G"
    if any(may(db, f"ALTER TABLE {table} {change}") for change in ("ADD mine int", "OWNER TO CURRENT_USER")):
        yield "A"


def view_verbs(db: Db, view: str) -> Iterator[str]:
    if may(db, f"SELECT * FROM {view}"):
        yield "S"
    for verb in ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER"):  # a view says first that it cannot be changed
        if db.execute("SELECT has_table_privilege(%s, %s)", [view, verb]).fetchone() == (True,):
            yield verb[0]


def sequence_verbs(db: Db, sequence: str) -> Iterator[str]:
    statements = {
        "N": f"SELECT nextval('{sequence}')",
        "L": f"SELECT last_value FROM {sequence}",
        "U": f"SELECT setval('{sequence}', 1000)",
    }
    yield from (verb for verb, statement in statements.items() if may(db, statement))


def function_verbs(db: Db, function: str) -> Iterator[str]:
    if may(db, f"SELECT {function}()", though=(errors.FeatureNotSupported,)):  # only a trigger can call it
        yield "X"


VERBS = {"table": table_verbs, "view": view_verbs, "sequence": sequence_verbs, "function": function_verbs}


def tried(db: Db, objects: Objects, schema: str) -> dict[str, set[str]]:
    """What the login may do with each of these objects."""
    return {
        f"{kind} {name}": set(VERBS[kind](db, f"{schema}.{name}")) for kind, names in objects.items() for name in names
    }


def expected(objects: Objects, role: str) -> dict[str, set[str]]:
    at = ROLES.index(role)
    return {f"{kind} {name}": set(verbs[at]) for kind, names in objects.items() for name, verbs in names.items()}


@pytest.mark.parametrize("role", ROLES)
def test_role_may_do_with_each_object_what_it_is_for_and_no_more(site: Site, role: str) -> None:
    for proof in site.proofs:
        with site.enter(role, proof) as db:
            assert db.pgconn.ssl_in_use == (site.tls is not None)
            assert tried(db, OBJECTS, "ops") == expected(OBJECTS, role)
            assert tried(db, BESIDE, "public") == expected(BESIDE, role)
            assert [one for one in NOBODY_MAY if may(db, one)] == []
            others = [name for name in ROLES if name != role]
            assert [name for name in others if may(db, f"SET ROLE {name}")] == []


def test_every_object_of_the_schema_has_an_entry(site: Site) -> None:
    with psycopg.connect(site.socket.format(database=OPS)) as db:
        found = db.execute(
            "SELECT CASE relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' ELSE 'table' END, relname FROM pg_class "
            "WHERE relnamespace = 'ops'::regnamespace AND relkind NOT IN ('i', 'I', 't') "
            "UNION ALL SELECT 'function', proname FROM pg_proc WHERE pronamespace = 'ops'::regnamespace"
        ).fetchall()
    assert set(found) == {(kind, name) for kind, names in OBJECTS.items() for name in names}


@pytest.mark.parametrize("role", ROLES)
def test_role_is_in_no_other_database(site: Site, role: str) -> None:
    for proof in site.proofs:
        refused = r"pg_hba\.conf rejects connection" if site.tls else "permission denied for database"
        with pytest.raises(psycopg.OperationalError, match=refused):
            site.enter(role, proof, database=PREFECT)
        if site.tls:
            with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
                site.enter(role, proof, database=ODOO)
        else:  # as every login of the server may be there
            with site.enter(role, proof, database=ODOO) as db:
                assert tried(db, BESIDE, "public") == expected(BESIDE, role)
                assert not may(db, "CREATE TABLE public.mine (x int)")


def test_worker_records_a_run_by_its_own_login(site: Site) -> None:
    for proof in site.proofs:
        login = login_name("ops_writer", proof)
        url = make_url(site.tcp.format(login=login, database=OPS))
        if proof == "password":
            url = url.set(password=PASSWORD)
        elif site.tls:
            cert = site.tls.authority.folder / f"{login}.pem"
            url = url.update_query_dict({"sslcert": str(cert), "sslkey": str(cert.with_suffix(".key"))})
        worker = site.room.model_copy(update={"database_url": SecretStr(url.render_as_string(hide_password=False))})
        check_migrated(worker)
        engine = connect(worker, application="worker")
        now = datetime.now(UTC)
        run = RunFacts(id=uuid4(), kind="deploy", lane=Lane.A, priority=0, session_id=None, params={}, created_at=now)
        with engine.begin() as db:
            apply_states(db, facts=run, states=[State(id=uuid4(), at=now, type="COMPLETED", name="Completed")])
            assert (
                db.execute(text("SELECT status FROM ops.runs WHERE id = :id"), {"id": run.id}).scalar() == "succeeded"
            )
        engine.dispose()


def test_nobody_is_more_than_a_login(site: Site) -> None:
    names = [*ROLES, "ops_owner", *(login_name(role, proof) for role in ROLES for proof in site.proofs)]
    with psycopg.connect(site.socket.format(database=OPS)) as db:
        powerful = db.execute(
            "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) AND (rolsuper OR rolcreaterole OR rolcreatedb OR "
            "rolreplication OR rolbypassrls)",
            [names],
        ).fetchall()
        known = db.execute("SELECT count(*) FROM pg_roles WHERE rolname = ANY(%s)", [names]).fetchone()
    assert (powerful, known) == ([], (len(names),))


@pytest.mark.parametrize("role", ROLES)
def test_login_that_was_removed_is_out_at_once_and_stays_out(site: Site, role: str) -> None:
    for proof in site.proofs:
        login = login_name(role, proof)
        with site.enter(role, proof) as held:
            with maintaining(site.socket.format(database="postgres"), OPS) as db:
                remove_login(db, login)
            try:
                with pytest.raises(psycopg.OperationalError):
                    held.execute("SELECT 1")
                with pytest.raises(
                    psycopg.OperationalError, match=rf"{login}\" does not exist|failed for user \"{login}\""
                ):
                    site.enter(role, proof)
            finally:
                with maintaining(site.socket.format(database="postgres"), OPS) as db:
                    make_login(db, login, role=role, password=PASSWORD if proof == "password" else None)


@pytest.mark.parametrize("role", ROLES)
def test_login_without_its_proof_is_refused(site: Site, role: str) -> None:
    for wrong in ("", PASSWORD + "x"):
        with pytest.raises(psycopg.OperationalError, match=r"no password supplied|password authentication failed"):
            site.enter(role, "password", password=wrong)
    if site.tls is None:
        return
    own = site.tls.authority.folder
    other = make_authority(own.parent / f"other_{role}")
    forged, key = other.issue(login_name(role, "certificate"))
    neighbour = own / f"{login_name(ROLES[ROLES.index(role) - 1], 'certificate')}.pem"
    cases: list[tuple[str, dict[str, str], str]] = [
        ("certificate", {"sslcert": "", "sslkey": "/nonexistent"}, r"requires a valid client certificate"),
        ("certificate", {"sslcert": "", "sslkey": "/nonexistent", "password": PASSWORD}, "requires a valid client"),
        (
            "certificate",
            {"sslcert": str(neighbour), "sslkey": str(neighbour.with_suffix(".key"))},
            "authentication failed",
        ),
        ("certificate", {"sslcert": str(forged), "sslkey": str(key)}, r"unknown ca|bad certificate|decrypt error"),
    ]
    for proof in PROOFS:
        cases += [
            (proof, {"sslmode": "disable"}, r"no encryption|rejects connection"),
            (proof, {"sslrootcert": str(other.cert)}, "certificate verify failed"),
            (proof, {"host": "localhost", "hostaddr": ADDRESS}, "does not match host name"),
        ]
    for proof, changes, words in cases:
        with pytest.raises(psycopg.OperationalError, match=words):
            site.enter(role, proof, **changes)
