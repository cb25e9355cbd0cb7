"""A real OpenSSH server on loopback, and its client: keys, configuration and known hosts are the test's own."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

import psutil

from tests.support.programs import program

DROPLET = "203.0.113.7"
"""An address that leads the client to the server as well."""
_SERVER = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host-key
AuthorizedKeysFile {folder}/authorized-keys
PidFile {folder}/sshd.pid
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
LogLevel VERBOSE
SetEnv {environment}
"""
_CLIENT = """\
IdentityFile {folder}/key
IdentitiesOnly yes
UserKnownHostsFile {folder}/known-hosts
GlobalKnownHostsFile /dev/null
Host {droplet}
  HostName 127.0.0.1
  Port {port}
"""


@dataclass
class SshServer:
    """Whoever runs the test may log in, and is known to the client by its key."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def destination(self) -> str:
        return f"{getuser()}@127.0.0.1"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known-hosts"

    @property
    def logins(self) -> int:
        """How often somebody was let in."""
        return (self.folder / "sshd.log").read_text().count("Accepted publickey for ")

    @property
    def refused(self) -> bool:
        """Whether somebody was sent away who showed a key."""
        return "closed by authenticating user" in (self.folder / "sshd.log").read_text()

    def know(self, key: str, *, name: str = "") -> None:
        """Let the client know `key`, a file's name, and no other as that of the server."""
        words = (self.folder / f"{key}.pub").read_text().split()[:2]
        self.known_hosts.write_text(" ".join([name or f"[127.0.0.1]:{self.port}", *words]) + "\n")

    def connections(self) -> list[psutil.Process]:
        """The processes that serve one connection each."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):  # it ended meanwhile
                if child.name().startswith("sshd"):
                    found.append(child)
        return found

    def programs(self) -> list[psutil.Process]:
        """What runs over there, also without its connection: it has a home that nothing else has."""
        wanted, found = f"HOME={self.folder}/home", []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                if wanted in (Path("/proc") / str(process.pid) / "environ").read_text(errors="replace").split("\0"):
                    found.append(process)
        return found


@contextmanager
def ssh_server(folder: Path, port: int, *, client: Path, environment: dict[str, str]) -> Iterator[SshServer]:
    """Run one for the length of the block, with its state in `folder`, and its client as `ssh` in the folder `client`.

    `environment` is that of what runs over there, beside what the server sets by itself.
    """
    sshd, ssh = program("sshd", package="openssh-server"), program("ssh", package="openssh-client")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # empty: sshd locks itself in there
    folder.mkdir()
    for name in ("host-key", "other-key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True, timeout=60)
    (folder / "authorized-keys").write_text((folder / "key.pub").read_text())
    home = folder / "home"  # without a .bashrc, which bash would read
    home.mkdir()
    given = " ".join(f'"{name}={value}"' for name, value in {"HOME": str(home), **environment}.items())
    (folder / "sshd-config").write_text(_SERVER.format(port=port, folder=folder, environment=given))
    (folder / "ssh-config").write_text(_CLIENT.format(port=port, folder=folder, droplet=DROPLET))
    (client / "ssh").write_text(f'#!/bin/sh\nexec {ssh} -F {folder}/ssh-config "$@"\n')
    (client / "ssh").chmod(0o755)
    log = folder / "sshd.log"
    with log.open("ab") as out:
        argv = [sshd, "-D", "-e", "-f", str(folder / "sshd-config")]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    server = SshServer(folder, port, process)
    try:
        _wait_until_it_listens(port, process, log)
        server.know("host-key")
        yield server
    finally:
        served = server.connections() if process.poll() is None else []
        for one in (*served, *server.programs()):
            with suppress(psutil.Error):
                one.kill()
        process.kill()
        process.wait(5)


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            raise RuntimeError(f"sshd ended: {log.read_text()[-2000:]}")
        time.sleep(0.05)
    raise RuntimeError(f"sshd did not listen within 10 s: {log.read_text()[-2000:]}")
