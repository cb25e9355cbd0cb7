"""Programs that run beside a test, and the ports they listen on."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_OWN = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = itertools.count(20_000 + 4000 * (_OWN % 3) + os.getpid() % 2000)  # below those that systems hand out


def free_port() -> int:
    """A loopback port that nothing listens on, and that no other process of these tests is given."""
    for port in itertools.islice(_ports, 1000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port of a thousand is free")


@contextmanager
def child(
    argv: list[str], env: Mapping[str, str], log: Path, *, pass_fds: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the length of the block; ended by its own pid."""
    with log.open("ab") as out:
        process = subprocess.Popen(argv, env=env, stdout=out, stderr=out, start_new_session=True, pass_fds=pass_fds)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
