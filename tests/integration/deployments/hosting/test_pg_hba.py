"""A rendered pg_hba.conf on real servers: who comes in, by which proof, and who does not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest

from deployments.hosting.pg_hba import FILE, PG_HBA, PgHbaValues
from deployments.hosting.template import render
from tests.support.postgres import short_folder
from tests.support.tls_servers import ADDRESS, TAKES_BOTH, TlsServer, tls_server

PASSWORD = "correct-horse-battery-7Q"
HERE: dict[str, object] = {"addresses": [f"{ADDRESS}/32"]}
LOGINS: dict[str, dict[str, object]] = {
    "room": {**HERE, "proof": "both"},
    "superset": HERE,
    "by_certificate": {**HERE, "proof": "certificate"},
    "elsewhere": {"addresses": ["192.0.2.1/32"]},
}
UNLISTED = "unlisted"
IN = {
    ("room", "ops", "both"),
    ("room", "prefect", "both"),
    ("superset", "ops", "password"),
    ("superset", "ops", "both"),
    ("by_certificate", "ops", "certificate"),
    ("by_certificate", "ops", "both"),
}
"""Who comes into which database, by which proof, over TLS: all others are refused."""


@pytest.fixture(scope="module", params=[18, pytest.param(16, marks=pytest.mark.gate)])
def server(request: pytest.FixtureRequest) -> Iterator[TlsServer]:
    """The rendered lines come first there; the line below them would let everybody in."""
    logins = [{"login": name, **how} for name, how in LOGINS.items()]
    lines = render(PG_HBA, PgHbaValues.model_validate({"logins": logins, "room_login": "room"}))[FILE]
    with short_folder() as folder, tls_server(request.param, folder, hba=lines + TAKES_BOTH) as server:
        with psycopg.connect(server.socket.format(database="postgres"), autocommit=True) as db:
            for name in ("ops", "prefect", "odoo_prod"):
                db.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
            for name in (*LOGINS, UNLISTED):
                db.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'".encode())
                server.authority.issue(name)
        yield server


def comes_in(
    server: TlsServer, login: str, database: str, proof: str, *, sslmode: str = "verify-full", holder: str = ""
) -> bool:
    """Whether the server lets it in; `holder` is whose certificate it shows, its own by default."""
    parameters = {"sslmode": sslmode, "passfile": "/nonexistent"}
    if proof in ("certificate", "both"):
        cert = server.authority.folder / f"{holder or login}.pem"
        parameters |= {"sslcert": str(cert), "sslkey": str(cert.with_suffix(".key"))}
    password = PASSWORD if proof in ("password", "both") else ""
    try:
        with psycopg.connect(server.url(login, password=password, **parameters).format(database=database)) as db:
            return bool(db.pgconn.ssl_in_use) == (sslmode == "verify-full")
    except psycopg.OperationalError:
        return False


def test_server_takes_every_line(server: TlsServer) -> None:
    with psycopg.connect(server.socket.format(database="postgres")) as db:
        assert db.execute("SELECT error FROM pg_hba_file_rules WHERE error IS NOT NULL").fetchall() == []


def test_each_login_comes_in_by_its_own_proof_and_nobody_else_does(server: TlsServer) -> None:
    tried = itertools.product((*LOGINS, UNLISTED), ("ops", "prefect"), ("password", "certificate", "both"))
    assert {one for one in tried if comes_in(server, *one)} == IN


def test_nobody_comes_in_without_tls_or_by_the_certificate_of_another(server: TlsServer) -> None:
    assert not [one for one in IN if comes_in(server, *one, sslmode="disable")]
    assert not comes_in(server, "by_certificate", "ops", "certificate", holder="superset")
    assert not comes_in(server, "room", "ops", "both", holder="superset")


def test_lines_below_decide_about_other_databases(server: TlsServer) -> None:
    assert comes_in(server, "superset", "odoo_prod", "password")


def test_line_that_no_server_takes_is_seen(server: TlsServer) -> None:
    file = server.log.parent / "postgres" / "pg_hba.conf"
    good = file.read_text()
    file.write_text(good.replace("192.0.2.1/32", "192.0.2.1/320"))
    try:
        with psycopg.connect(server.socket.format(database="postgres")) as db:
            (error,) = db.execute("SELECT error FROM pg_hba_file_rules WHERE error IS NOT NULL").fetchall()
        assert "192.0.2.1/320" in error[0]
    finally:
        file.write_text(good)
