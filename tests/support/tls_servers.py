"""A PostgreSQL that speaks TLS on a port of loopback, and whose log says which logins did not."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from deployments.room.postgres import SERVICE_USER
from tests.support.certificates import Authority, make_authority
from tests.support.children import free_port
from tests.support.postgres import running
from tests.support.servers import server_programs
from tests.support.waiting import wait_for

ADDRESS = "127.0.0.1"
TAKES_BOTH = "host all all 127.0.0.1/32 scram-sha-256\n"
TLS_ONLY = "hostssl all all 127.0.0.1/32 scram-sha-256\nhostnossl all all all reject\n"
"""What pg_hba.conf says of TCP."""
_LOGIN = re.compile(rf"^{re.escape(ADDRESS)} LOG:  connection authorized: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class TlsServer:
    """A running server."""

    socket: str
    """A superuser's URL with `{database}` in it, over the socket."""
    port: int
    authority: Authority
    log: Path

    def url(self, user: str, *, password: str = "", **parameters: str) -> str:
        """A URL with `{database}` in it, over TCP; by default with sslmode=verify-full."""
        parameters = {"sslmode": "verify-full", "sslrootcert": str(self.authority.cert)} | parameters
        login = f"{user}:{quote(password)}" if password else user
        return f"postgresql://{login}@{ADDRESS}:{self.port}/{{database}}?{urlencode(parameters)}"

    def logins(self, *, tls: bool) -> list[str]:
        """What the log says of each login over TCP that was encrypted, or was not."""
        return [said for said in _LOGIN.findall(self.log.read_text()) if ("SSL enabled" in said) == tls]


@contextmanager
def tls_server(major: int, folder: Path, *, hba: str) -> Iterator[TlsServer]:
    """Run a server of that version below `folder`, with `hba` for TCP."""
    authority, port = make_authority(folder / "authority"), free_port()
    cert, key = authority.issue("server", address=ADDRESS)
    if os.geteuid() == 0:
        shutil.chown(key, SERVICE_USER)
    settings = {
        "ssl": "on",
        "ssl_cert_file": str(cert),
        "ssl_key_file": str(key),
        "ssl_ca_file": str(authority.cert),
        "log_connections": "on",
        "log_line_prefix": "%h ",
    }
    with running(
        folder, programs=server_programs(major), hba=f"local all all trust\n{hba}", listen=(ADDRESS, port)
    ) as socket:
        _configure(socket, settings)
        yield TlsServer(socket, port, authority, folder / "postgres.log")


def _configure(socket: str, settings: Mapping[str, str]) -> None:
    with psycopg.connect(socket.format(database="postgres"), autocommit=True) as db:
        for name, value in settings.items():
            db.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        db.execute("SELECT pg_reload_conf()")
    wait_for(lambda: _speaks_tls(socket), seconds=30, what="the server speaks TLS")


def _speaks_tls(socket: str) -> bool:
    with psycopg.connect(socket.format(database="postgres")) as db:
        return db.execute("SELECT current_setting('ssl')").fetchone() == ("on",)
