"""Programs of a runbook over TLS: encrypted where the room's own connection is, or refused before anything begins."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cli.doctor.host import check_pg_dump
from deployments.room.postgres import PROGRAMS
from flows.backup.programs import INSTALLED
from flows.engine.dry_run import dry_run
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_restore_drill import odoo_restore_drill
from opsdb.errors import PreflightError
from opsdb.settings import load_settings
from tests.support.odoo_sample import make_odoo_database
from tests.support.postgres import databases
from tests.support.programs import program
from tests.support.servers import SERVERS, programs_with_tls
from tests.support.tiers import in_gate, in_soak
from tests.support.tls_servers import TAKES_BOTH, TLS_ONLY, TlsServer, tls_server

PASSWORD = "correct-horse-battery-7Q"
OWN = "own"
"""The version of Debian's client programs, which the room finds by itself."""
REFUSAL = r"the connection to the server is encrypted, and these programs are built without TLS: .*postgresql-client-"
_numbers = itertools.count()


@pytest.fixture(scope="module", params=[OWN, *in_gate([16]), *in_soak([18])])
def version(request: pytest.FixtureRequest) -> int | str:
    """A server's major version."""
    chosen: int | str = request.param
    return chosen


@pytest.fixture(scope="module", params=[TAKES_BOTH, *in_gate([TLS_ONLY])], ids=["takes_both", "tls_only"])
def server(version: int | str, request: pytest.FixtureRequest, short_folder: Path) -> Iterator[TlsServer]:
    """It holds `odoo_prod`; the superuser `room` logs in with a password."""
    folder = short_folder / f"tls{next(_numbers)}"
    folder.mkdir(mode=0o711)
    with tls_server(newest_installed() if version == OWN else int(version), folder, hba=request.param) as server:
        with psycopg.connect(server.socket.format(database="postgres"), autocommit=True) as db:
            db.execute(f"CREATE ROLE room LOGIN SUPERUSER PASSWORD '{PASSWORD}'".encode())
            db.execute("CREATE ROLE odoo LOGIN")
        make_odoo_database(server.socket, "odoo_prod", owner="odoo")
        yield server


@pytest.fixture(params=["prefer", *in_gate(["verify-full"])])
def sslmode(server: TlsServer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the room's URL says. With `prefer`, its own connection is encrypted all the same."""
    chosen: str = request.param
    url = server.url("room", password=PASSWORD, sslmode=chosen)
    monkeypatch.setenv("OPS_ODOO_DATABASE_URL", url.format(database="postgres"))
    return chosen


def newest_installed() -> int:
    program("pg_dump", package="postgresql-client")
    return max({int(folder.parent.name) for folder in INSTALLED.glob("*/bin")} & SERVERS.keys())


@pytest.mark.promise(17)
@pytest.mark.usefixtures("sslmode")
def test_backup_drill_and_restore_send_nothing_in_plaintext(
    server: TlsServer, version: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if version != OWN:
        monkeypatch.setenv("OPS_PG_BIN", str(programs_with_tls()))
    before, copy = len(server.logins(tls=True)), f"odoo_copy_{next(_numbers)}"
    made = odoo_db_backup("odoo_prod")
    assert odoo_restore_drill("odoo_prod")["rows_compared"] == made["rows"] > 1000
    monkeypatch.setenv("OPS_DRILL_ON_SERVER", "true")
    assert odoo_restore_drill("odoo_prod")["rows_compared"] == made["rows"]
    odoo_db_restore(copy, Path(made["file"]).name)
    assert copy in databases(server.socket)
    (doctor,) = check_pg_dump(load_settings())
    assert (doctor.ok, "over TLS" in doctor.found) == (True, True), doctor
    assert server.logins(tls=False) == []
    by_programs = [one for one in server.logins(tls=True)[before:] if "database=odoo_prod" in one]
    assert len(by_programs) > 3


@pytest.mark.promise(17)
@pytest.mark.usefixtures("sslmode")
def test_programs_without_tls_are_refused_before_anything_begins(
    server: TlsServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPS_PG_BIN", str(PROGRAMS))
    with pytest.raises(PreflightError, match=REFUSAL):
        odoo_db_backup("odoo_prod")
    planned = dry_run(odoo_db_backup, {"odoo_db": "odoo_prod"}, settings=load_settings())
    assert planned.error is not None
    assert "built without TLS" in planned.error
    (doctor,) = check_pg_dump(load_settings())
    assert ("built without TLS" in doctor.found, "install the package" in doctor.advice) == (True, True), doctor
    assert not [*folder.rglob("*.dump*")]
    assert server.logins(tls=False) == []


@pytest.mark.gate
@pytest.mark.usefixtures("sslmode")
def test_restore_by_programs_without_tls_is_refused_before_anything_begins(
    server: TlsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as able:
        able.setenv("OPS_PG_BIN", str(programs_with_tls()))
        made = odoo_db_backup("odoo_prod")
    before = databases(server.socket)
    monkeypatch.setenv("OPS_PG_BIN", str(PROGRAMS))
    with pytest.raises(PreflightError, match=REFUSAL):
        odoo_db_restore("odoo_copy", Path(made["file"]).name)
    monkeypatch.setenv("OPS_DRILL_ON_SERVER", "true")
    with pytest.raises(PreflightError, match=REFUSAL):
        odoo_restore_drill("odoo_prod")
    assert databases(server.socket) == before
    assert server.logins(tls=False) == []


@pytest.mark.gate
def test_certificate_that_the_programs_do_not_find_is_named_before_anything_begins(
    server: TlsServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(server.authority.folder)  # the programs work in another folder
    url = server.url("room", password=PASSWORD, sslrootcert=server.authority.cert.name)
    monkeypatch.setenv("OPS_ODOO_DATABASE_URL", url.format(database="postgres"))
    monkeypatch.setenv("OPS_PG_BIN", str(programs_with_tls()))
    with pytest.raises(PreflightError, match=r"cannot connect as the room does: .*authority\.pem.* does not exist"):
        odoo_db_backup("odoo_prod")
    assert not [*folder.rglob("*.dump*")]
    assert server.logins(tls=False) == []
