"""The way to PostgreSQL, without one: URLs, the password file, and which pg_dump is taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from flows.backup.postgres import Connection, connect, passfile, program_env
from opsdb.errors import PreflightError


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://odoo:sec@ret@host/odoo",
        "postgresql://odoo:sec/ret@host/odoo",
        "postgresql://odoo:sec#ret@host/odoo",
        "postgresql://odoo:secret@host/odoo?nonsense=sec",
        "postgresql://odoo:%zzsecret@host/odoo",
        "postgresql+psycopg://odoo:secret@host/odoo",
        "host=somewhere password=secret",
    ],
)
def test_connect_refuses_an_odd_url_without_quoting_it(url: str) -> None:
    with pytest.raises(PreflightError) as caught:
        connect(url)
    assert "OPS_ODOO_DATABASE_URL" in str(caught.value)
    assert "sec" not in str(caught.value)
    assert "ret" not in str(caught.value)


def test_connect_names_what_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(PreflightError) as caught:
        connect(f"postgresql://odoo:secret@/odoo?host={tmp_path}")
    assert str(tmp_path) in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_connection_is_kept_alive_and_the_url_may_say_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, str] = {}
    monkeypatch.setattr("psycopg.connect", lambda **parameters: given.update(parameters))
    connect("postgresql://odoo@host/odoo?keepalives_idle=5&application_name=other")
    kept_alive = (given["keepalives_idle"], given["keepalives_interval"], given["keepalives_count"])
    assert kept_alive == ("5", "10", "6")
    assert given["application_name"] == "ops-backup"


@dataclass
class StandInInfo:
    """What psycopg tells of an open connection."""

    parameters: dict[str, str]
    host: str = "/run/postgresql"
    port: int = 5433
    user: str = "odoo"
    dbname: str = "odoo"
    password: str = field(default="", repr=False)

    def get_parameters(self) -> dict[str, str]:
        return self.parameters


def env_of(parameters: dict[str, str], *, host: str = "/run/postgresql", tls: bool = False) -> dict[str, str]:
    pgconn = SimpleNamespace(ssl_in_use=tls)
    return program_env(cast(Connection, SimpleNamespace(info=StandInInfo(parameters, host), pgconn=pgconn)))


def test_program_env_is_the_open_connection() -> None:
    given = {"host": "a,b", "port": "1,2", "sslmode": "verify-full", "sslrootcert": "/ca.pem", "user": "odoo"}
    assert env_of(given, host="b", tls=True) == {
        "PGHOST": "b",
        "PGPORT": "5433",
        "PGUSER": "odoo",
        "PGDATABASE": "odoo",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/ca.pem",
        "PGGSSENCMODE": "disable",
        "PGAPPNAME": "ops-backup",
    }


@pytest.mark.promise(17)
@pytest.mark.parametrize("given", ["prefer", "allow", None, "require", "verify-ca", "verify-full"])
def test_program_env_encrypts_what_the_open_connection_does(given: str | None) -> None:
    env = env_of({"sslmode": given} if given else {}, host="db.example", tls=True)
    assert env["PGSSLMODE"] == (given if given in {"verify-ca", "verify-full"} else "require")
    assert env["PGGSSENCMODE"] == "disable"  # else a Kerberos ticket stands in for a certificate that is checked


@pytest.mark.parametrize(("given", "env"), [({"sslmode": "prefer"}, "prefer"), ({}, None)])
def test_program_env_asks_for_no_tls_where_the_open_connection_has_none(given: dict[str, str], env: str | None) -> None:
    assert env_of(given, host="db.example").get("PGSSLMODE") == env


def test_program_env_of_a_socket_suits_programs_without_tls() -> None:
    assert env_of({"sslmode": "verify-full"})["PGSSLMODE"] == "disable"  # libpq ignores it there


def test_program_env_does_not_change_the_dumps_encoding() -> None:
    env = env_of({"client_encoding": "LATIN1", "service": "x", "keepalives_idle": "5", "application_name": "a"})
    assert env.keys() == {"PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGAPPNAME", "PGSSLMODE"}


def test_program_env_refuses_what_cannot_be_passed_on_and_does_not_show_it() -> None:
    with pytest.raises(PreflightError, match="sslpassword") as caught:
        env_of({"sslpassword": "hidden"})
    assert "hidden" not in str(caught.value)


def test_passfile_is_closed_to_others_and_gone_afterwards() -> None:
    with passfile(r"a:b\c") as env:
        path = Path(env["PGPASSFILE"])
        assert path.read_text() == "*:*:*:*:a\\:b\\\\c\n"
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_nlink == 0  # it lies in no folder, so that nothing stays after a SIGKILL
    assert not path.exists()


def test_passfile_is_gone_after_an_error() -> None:
    with pytest.raises(KeyboardInterrupt), passfile("secret") as env:
        raise KeyboardInterrupt
    assert not Path(env["PGPASSFILE"]).exists()


def test_passfile_without_a_password_is_none() -> None:
    with passfile("") as env:
        assert env == {}


def test_passfile_refuses_a_line_break_without_showing_the_password() -> None:
    with pytest.raises(PreflightError) as caught, passfile("hidden\nword"):
        pass
    assert "hidden" not in str(caught.value)
