"""A database behind a pooler, which gives a connection to another program after each transaction."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from deployments.room.postgres import SERVICE_USER
from tests.integration.flows.backup.beside import backup, create, pg_dump, working
from tests.support.children import free_port
from tests.support.postgres import running
from tests.support.programs import needs_root, program
from tests.support.waiting import wait_for

_numbers = itertools.count()
gate = pytest.mark.gate


@contextmanager
def pooler(server: str, folder: Path) -> Iterator[str]:
    """PgBouncer, which gives a connection to another program after each transaction: a URL pattern of it."""
    port = free_port()
    host = server.partition("host=")[2]
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={host} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"unix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users\npool_mode = transaction\n"
        f"default_pool_size = 4\nuser = {SERVICE_USER}\nadmin_users = postgres\nserver_lifetime = 3600\n"
    )
    (folder / "users").write_text('"postgres" ""\n')
    folder.chmod(0o755)
    command = [program("pgbouncer", package="pgbouncer"), str(folder / "pgbouncer.ini")]
    log = (folder / "log").open("ab")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"postgresql://postgres@127.0.0.1:{port}/{{database}}"
    try:
        wait_for(lambda: _answers(url), seconds=20, what="pgbouncer answers")
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url.format(database="postgres"), connect_timeout=2).close()
    except psycopg.Error:
        return False
    return True


OF_THE_POOLER = {"application_name", "client_encoding"}
"""What it gives each program as that asked for it."""

OF_PG_DUMP = {
    *("search_path", "DateStyle", "IntervalStyle", "extra_float_digits", "synchronize_seqscans", "row_security"),
    *("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"),
}
"""What pg_dump itself sets for its session, outside a transaction. Where the pooler gives the transaction after it to
another connection, the one with the setting stays; otherwise it is closed with pg_dump's open transaction.
"""


def left_behind(url: str) -> set[str]:
    """The settings that connections behind a pooler have kept from whoever had them before."""
    found, opened = set(), [psycopg.connect(url, prepare_threshold=None) for _ in range(4)]
    for db in opened:  # each holds one of the four
        rows = db.execute("SELECT name, setting FROM pg_settings WHERE source = 'session'").fetchall()
        found |= {f"{name} = {setting}" for name, setting in rows}
    for db in opened:
        db.close()
    return found


@gate
@needs_root
def test_behind_a_pooler_no_setting_outlives_a_transaction(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = short_folder / f"pooled{next(_numbers)}"
    folder.mkdir(mode=0o711)
    (folder / "pooler").mkdir()
    with running(folder, hba="local all all trust\n") as server, pooler(server, folder / "pooler") as pooled:
        database = create(server)
        with psycopg.connect(server.format(database=database)) as db:
            db.execute("CREATE TABLE line AS SELECT g FROM generate_series(1, 1000) g")
            db.execute("CREATE VIEW short AS SELECT * FROM line")
        url = pooled.format(database=database)
        pg_dump(pooled, database)
        usual = left_behind(url)
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("SET lock_timeout = '7s'")
        assert "lock_timeout = 7000" in left_behind(url)  # so it would be seen
        monkeypatch.setenv("OPS_ODOO_DATABASE_URL", pooled.format(database="postgres"))
        with working(pooled, database, lambda db: db.execute("SELECT count(*) FROM public.line"), every=0.01) as waits:
            assert backup(database)["rows"] == 1000
        left = {one for one in left_behind(url) - usual if one.split(" = ")[0] not in OF_THE_POOLER | OF_PG_DUMP}
        assert left <= {"lock_timeout = 7000", "lock_timeout = 0"}  # the second is pg_dump's, as those above
    assert not waits.errors
