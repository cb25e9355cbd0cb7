"""A PostgreSQL for one drill: made, walled in, and thrown away, since what a dump holds is code.

Its socket is in the folder of its cluster, which is reached through this process's open handle: no path is too long for
it, and nobody else gets there. A shell watches a pipe of this process, and ends the server when that closes: also when
this process is killed.
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from psycopg import sql

from flows.backup.postgres import connect
from flows.backup.programs import Programs, embedded_programs, version_of
from flows.engine.active_run import current_run
from flows.restore.loader import loader_name
from flows.restore.own_folder import OwnFolder
from flows.restore.walls import Walls, find_walls
from opsdb.errors import OpsError, PreflightError
from opsdb.processes.find import RUN_ID_VARIABLE
from opsdb.processes.kill import direct_child
from opsdb.service_user import make_passable, service_account
from opsdb.settings import Settings

READY_SECONDS = 60
STOP_SECONDS = 10
_FOLDER = re.compile(r"sandbox-[0-9a-f-]{36}")
_CWD = "/proc/self/cwd"  # the server starts in its folder, and need not pass through those above

# The pipe is silent until it closes. A server that ends by itself ends the shell. Bash has what it starts in the
# background ignore QUIT.
WATCH = """\
exec {alive}<&0
ulimit -c 0
env --default-signal -- "$@" {alive}<&- &
server=$!
{ read -r _ <&"$alive"; kill -QUIT "$server"; } &
wait "$server"
kill "$!"
"""
WATCHED = ("bash", "-c", WATCH, "sandbox")

CONFIGURATION = """\
listen_addresses = ''
unix_socket_directories = '.'
unix_socket_permissions = 0777  # the folder is closed
max_connections = 30
shared_buffers = 64MB
maintenance_work_mem = 128MB
max_wal_size = 1GB
wal_level = minimal
max_wal_senders = 0
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off  # it would execute what the dump holds
log_line_prefix = '%m [%p] '
timezone = 'UTC'
log_timezone = 'UTC'
"""


class CannotDrillHereError(PreflightError):
    """The backup cannot be drilled on this host, which says nothing about the backup."""


def server_programs(restored_by: Programs) -> Path:
    """The folder with the programs of a server that takes what pg_restore reads: beside it if it runs, or the wheel's.

    Raises CannotDrillHereError.
    """
    beside = restored_by.pg_restore.parent
    if all(version_of(beside / name) for name in ("postgres", "initdb")):
        return beside
    embedded = embedded_programs()
    if embedded is not None and embedded.major >= restored_by.major:
        return embedded.pg_restore.parent
    raise CannotDrillHereError(
        f"cannot be drilled here: no server that runs here is beside {restored_by.pg_restore}. Hint: install "
        f"PostgreSQL {restored_by.major}, server programs too, or set OPS_DRILL_ON_SERVER"
    )


class Sandbox:
    """The server, from start() until the end of a `with` block."""

    def __init__(self, settings: Settings, programs: Path) -> None:
        self.walls: Walls | None = None
        self._programs = programs.resolve()
        self._folder = OwnFolder(settings.sandboxes / f"sandbox-{current_run().id}", leftovers=_FOLDER)
        self._server: subprocess.Popen[bytes] | None = None
        self._alive: int | None = None

    @property
    def url(self) -> str:
        """Its superuser's, over the socket."""
        return f"postgresql://postgres@/postgres?host=/proc/{os.getpid()}/fd/{self._folder.handle}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._folder.remove()

    def start(self, *, roles: Iterable[str]) -> None:
        """Make a cluster, start it, and make roles of these names without rights. Raises CannotDrillHereError."""
        parent = self._folder.path.parent
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.make(event="removed the servers of killed drills")
        try:
            self.walls = find_walls(self._programs)
            if self.walls.user:
                account = service_account(self.walls.user)
                os.chown(self._folder.path, account.pw_uid, account.pw_gid)
                if not self.walls.hides_files:
                    make_passable(self._programs)
            self._initialize(self.walls)
            self._serve(self.walls)
        except OpsError as error:
            raise CannotDrillHereError(f"cannot be drilled here: {error}") from error
        with connect(self.url) as server:
            for role in sorted({*roles} - {"postgres"}):
                server.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))

    @contextmanager
    def _data(self, walls: Walls) -> Iterator[tuple[str, tuple[int, ...]]]:
        """How a program of the server names its folder, and the handles that it needs for that.

        Until version 15 they look for themselves first, and cannot come back into a folder below closed ones. Where
        files are hidden they can, and no handle shows what is around the folder.
        """
        if walls.hides_files:
            yield _CWD, ()
            return
        handle = os.open(f"/proc/self/fd/{self._folder.handle}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{handle}", (handle,)
        finally:
            os.close(handle)

    def _initialize(self, walls: Walls) -> None:
        options = ["--username=postgres", "--auth=peer", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        with self._data(walls) as (data, handles):
            done = subprocess.run(
                self._command(walls, [self._programs / "initdb", f"--pgdata={data}", *options, "--no-instructions"]),
                cwd=self._folder.path,
                env=_environment(),
                pass_fds=handles,
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        if done.returncode:
            raise OpsError(f"initdb failed: {' '.join(done.stderr.split())[-500:]}")
        own = pwd.getpwuid(os.geteuid()).pw_name
        for name, text in {
            "postgresql.conf": CONFIGURATION,
            "pg_hba.conf": "local all all peer map=room\n",
            "pg_ident.conf": "".join(f"room {own} {role}\n" for role in ("postgres", loader_name(current_run().id))),
        }.items():
            self._write(name, text, walls)

    def _write(self, name: str, text: str, walls: Walls) -> None:
        """Over what initdb made, through the folder's handle: no link of the server's user is followed."""
        handle = self._folder.handle
        os.unlink(name, dir_fd=handle)
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=handle)
        with os.fdopen(file, "w") as out:
            out.write(text)
            if walls.user:
                os.fchown(file, pwd.getpwnam(walls.user).pw_uid, -1)

    def _serve(self, walls: Walls) -> None:
        watched, self._alive = os.pipe()
        log = os.open("server.log", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._folder.handle)
        try:
            with self._data(walls) as (data, handles):
                command = [*WATCHED, *self._command(walls, [self._programs / "postgres", "-D", data])]
                with direct_child(
                    lambda: subprocess.Popen(
                        command,
                        cwd=self._folder.path,
                        env=_environment(),
                        pass_fds=handles,
                        stdin=watched,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                ) as self._server:
                    self._wait_until_ready(self._server)
        finally:
            os.close(watched)
            os.close(log)

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                return connect(self.url).close()
            except PreflightError as error:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise OpsError(f"its server does not start: {self._last_words() or error}") from None
            time.sleep(0.05)

    def _last_words(self) -> str:
        with os.fdopen(os.open("server.log", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._folder.handle), "rb") as file:
            return " ".join(file.read(2000).decode(errors="replace").split())

    def _command(self, walls: Walls, program: list[str | Path]) -> list[str]:
        return walls.command(program, folder=self._folder.path)

    def _stop(self) -> None:
        if self._alive is not None:
            os.close(self._alive)
            self._alive = None
        if self._server is not None:
            try:
                self._server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._server.kill()  # what is left of it, the end of the run kills
                self._server.wait()
            self._server = None


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", RUN_ID_VARIABLE: str(current_run().id)}
