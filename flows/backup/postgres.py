"""How a step's programs reach PostgreSQL: the connection as environment, the password as a file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from flows.backup.programs import Programs, find_programs
from opsdb.errors import PreflightError
from opsdb.setting_checks import POSTGRESQL_URL
from opsdb.shown import shown

Connection = psycopg.Connection[tuple[object, ...]]

QUIET = "-c event_triggers=off"
"""The option of a session that sets off no event triggers. PostgreSQL has them for logins, and it, since 17."""
APPLICATION = "ops-backup"  # what pg_stat_activity shows
URL_VARIABLE = "OPS_ODOO_DATABASE_URL"
# So that no firewall forgets a connection that is idle for an hour, and that a host which is gone is noticed.
_KEEPALIVES = {"keepalives_idle": "60", "keepalives_interval": "10", "keepalives_count": "6"}
# Parameters of libpq that have no environment variable and do not change what is reached or how it is protected.
_TUNING = {
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
}
# client_encoding: pg_dump would write its dump in it. service: its values are in use already. passfile: ours is used.
_DROPPED = _TUNING | {"client_encoding", "service", "passfile", "application_name"}
_ENCRYPTING = {"require", "verify-ca", "verify-full"}  # what sslmode says where nothing goes out in plaintext


@dataclass(frozen=True, slots=True)
class Login:
    """A role that can log in."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A database of the same server, for what needs any: behind a pooler no program of the first one notices it."""

    name: str
    quiet: bool
    """Whether sessions of the server may begin with QUIET."""


@lru_cache
def find_neighbour(url: str, database: str) -> Neighbour:
    """That of the URL, or `postgres`, or where neither lets us in the database itself."""
    usual = conninfo_to_dict(url).get("dbname") if POSTGRESQL_URL.fullmatch(url) else None
    for name in dict.fromkeys((str(usual or "postgres"), "postgres")):
        if name == database:
            continue
        try:
            with connect(url, database=name) as db:
                may = db.info.server_version >= 170000 and db.info.parameter_status("is_superuser") == "on"
        except (PreflightError, psycopg.Error):
            continue
        return Neighbour(name, may and _takes_options(url, name))
    return Neighbour(database, quiet=False)


def _takes_options(url: str, database: str) -> bool:
    """A pooler may not."""
    try:
        connect(url, database=database, options=QUIET).close()
    except PreflightError:
        return False
    return True


def connect_quietly(url: str, *, database: str) -> Connection:
    """Connect without setting off the database's own event triggers, where the role may do so.

    They may write, and what is compared would not be what it was. No statement is prepared: a pooler knows none.
    Raises PreflightError as connect() does.
    """
    quiet = find_neighbour(url, database).quiet
    db = connect(url, database=database, options=QUIET if quiet else "")
    db.prepare_threshold = None
    return db


def connect(
    url: str,
    *,
    database: str | None = None,
    login: Login | None = None,
    options: str = "",
    connect_seconds: int = 10,
    variable: str = URL_VARIABLE,
) -> Connection:
    """Connect to the server that `url` names, to its own database or as its own role or others, in autocommit.

    The environment variables of libpq fill in what the URL leaves open, as they do for psql; `connect_seconds` is for
    a URL that names no time, and `variable` is the setting that errors name. Raises PreflightError, which never quotes
    the URL.
    """
    if not POSTGRESQL_URL.fullmatch(url):
        raise PreflightError(
            f"{variable}: expected postgresql://user@host:port/database, with %40 for @, %2F for /, %23 for #"
        )
    try:
        parameters = {"connect_timeout": str(connect_seconds), **_KEEPALIVES, **conninfo_to_dict(url)}
        parameters |= {"application_name": APPLICATION, "client_encoding": "UTF8"}
    except psycopg.ProgrammingError:
        raise PreflightError(f"{variable}: libpq does not understand its parameters") from None
    if database is not None:
        parameters["dbname"] = database
    if options:
        parameters["options"] = f"{parameters.get('options', '')} {options}".strip()
    if login is not None:
        parameters |= {"user": login.user, "password": login.password}
    try:
        return psycopg.connect(**parameters, autocommit=True)  # type: ignore[arg-type]
    except psycopg.OperationalError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
        raise PreflightError(f"cannot connect to PostgreSQL ({variable}): {shown(reason)}") from None


def program_env(db: Connection) -> dict[str, str]:
    """The connection `db` as libpq's environment variables, without its password.

    Taken from the open connection and not from the URL: the programs bring a libpq of their own, whose default socket
    folder may be another one, and of several hosts it is this one that was checked. Where it is encrypted, theirs is
    encrypted or refused: with sslmode=prefer, programs without TLS would connect in plaintext.
    Raises PreflightError for a parameter that matters and that has no variable.
    """
    variables = {
        option.keyword.decode(): option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar
    }
    used = {
        **db.info.get_parameters(),
        "host": db.info.host,
        "port": str(db.info.port),
        "user": db.info.user,
        "dbname": db.info.dbname,
    }
    used = {name: value for name, value in used.items() if name not in _DROPPED}
    if missing := sorted(used.keys() - variables.keys()):
        raise PreflightError(f"{URL_VARIABLE}: pg_dump cannot be given {', '.join(missing)} without showing it")
    return {variables[name]: value for name, value in (used | _protection(db)).items()} | {"PGAPPNAME": APPLICATION}


def _protection(db: Connection) -> dict[str, str]:
    """The parameters by which programs connect as safely as `db`, whatever their libpq does by default."""
    if db.info.host.startswith(("/", "@")):
        return {"sslmode": "disable"}  # sslmode means nothing to a socket, but programs without TLS refuse others
    if not db.pgconn.ssl_in_use:
        return {}
    asked = db.info.get_parameters().get("sslmode")
    # a Kerberos ticket would have them take GSSAPI's encryption in place of TLS, which checks no certificate
    return {"sslmode": asked if asked in _ENCRYPTING else "require", "gssencmode": "disable"}


@contextmanager
def passfile(password: str) -> Iterator[dict[str, str]]:
    """A libpq password file for programs that run meanwhile: yields `PGPASSFILE`, or nothing for an empty password.

    The file lives in memory and is named through this process's /proc folder: it is gone with the process, also after
    a SIGKILL, and only the same user reaches it. Raises PreflightError for a password that the format cannot hold.
    """
    if not password:
        yield {}
        return
    if re.search(r"[\r\n\0]", password):
        raise PreflightError(f"{URL_VARIABLE}: a password with a line break does not fit into a password file")
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    handle = os.memfd_create("pgpass")
    try:
        os.fchmod(handle, 0o600)  # libpq ignores a password file that others may read
        os.write(handle, f"*:*:*:*:{escaped}\n".encode())
        yield {"PGPASSFILE": f"/proc/{os.getpid()}/fd/{handle}"}
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class Access:
    """How programs of steps reach a server."""

    programs: Programs
    server_version: str
    superuser: bool
    variables: dict[str, str]
    password: str = field(repr=False)

    @property
    def encrypted(self) -> bool:
        """Whether their connection is encrypted, or refused: as the room's own is."""
        return _is_encrypted(self.variables)

    @contextmanager
    def environment(self) -> Iterator[dict[str, str]]:
        """Their environment, with a password file for as long as the block lasts."""
        with passfile(self.password) as file:
            yield self.variables | file


def access_of(db: Connection, pg_bin: Path | None, *, dumped_by: str | None = None) -> Access:
    """How programs reach the server of an open connection, and read what `dumped_by` wrote.

    Raises PreflightError, also where the connection is encrypted and theirs could not be.
    """
    version = db.info.parameter_status("server_version") or str(db.info.server_version // 10000)
    variables = program_env(db)
    tls = _is_encrypted(variables)
    return Access(
        programs=find_programs(pg_bin, server_version=version, dumped_by=dumped_by, tls=tls),
        server_version=version,
        superuser=db.info.parameter_status("is_superuser") == "on",
        variables=variables,
        password=db.info.password,
    )


def _is_encrypted(variables: Mapping[str, str]) -> bool:
    return variables.get("PGSSLMODE") in _ENCRYPTING
