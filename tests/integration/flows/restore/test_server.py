"""What a server must allow is seen before anything is made on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from flows.backup.postgres import connect
from flows.restore.server import check_login
from opsdb.errors import PreflightError
from tests.support.postgres import running, short_folder

PEER = "local all postgres trust\nlocal all all peer\n"
PASSWORDS = "local all postgres trust\nlocal odoo all peer\nlocal all all scram-sha-256\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.mark.parametrize("rules", [PEER, PASSWORDS], ids=["peer", "passwords"])
def test_socket_that_knows_no_passwords_is_refused_before_a_restore(folder: Path, rules: str) -> None:
    """As Debian makes it: a role that is made for a restore could not log in."""
    with running(folder, hba=rules) as url, connect(url.format(database="postgres")) as server:
        if rules == PASSWORDS:
            check_login(server)
            return
        with pytest.raises(PreflightError, match=r"lets in by 'peer' only \(pg_hba\.conf, line 2\).*scram-sha-256"):
            check_login(server)
        server.execute("CREATE ROLE loader LOGIN PASSWORD 'word'")
        with pytest.raises(psycopg.OperationalError, match="Peer authentication failed"):
            psycopg.connect(url.format(database="postgres").replace("postgres@", "loader:word@"))


def test_socket_of_the_embedded_server_lets_all_in(postgres: str) -> None:
    with connect(postgres.format(database="postgres")) as server:
        check_login(server)
