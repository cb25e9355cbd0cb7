"""Two hosts in network namespaces of this one: a firewall is tried there, and changes nothing here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import wait_for

_LISTEN = """
import selectors, socket, sys
ready = selectors.DefaultSelector()
for port in map(int, sys.argv[1:]):
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    ready.register(listener, selectors.EVENT_READ)
print("listens", flush=True)
while True:
    for key, _ in ready.select():
        key.fileobj.accept()[0].close()
"""
_CONNECT = """
import json, selectors, socket, sys, time
source, there, wanted, ports = json.loads(sys.argv[1])
waiting, found = selectors.DefaultSelector(), []
for port in ports:
    client = socket.socket(socket.AF_INET6 if ":" in there else socket.AF_INET)
    client.setblocking(False)
    client.bind((source, 0))
    client.connect_ex((there, port))
    waiting.register(client, selectors.EVENT_WRITE, port)
until = time.monotonic() + 10
while waiting.get_map() and (left := until - time.monotonic()) > 0:
    for key, _ in waiting.select(left):
        waiting.unregister(key.fileobj)
        if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            found.append(key.data)
    if set(wanted) <= set(found) and until - time.monotonic() > 1:
        until = time.monotonic() + 0.4  # for those that ought to be closed
print(json.dumps(sorted(found)))
"""


@dataclass(frozen=True)
class Hosts:
    """The server with a firewall, and a client beside it, by the pid whose namespaces they are."""

    server: int
    client: int

    def on_server(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command on the server, with its own copy of what ufw keeps in /etc."""
        words = ["nsenter", "--target", str(self.server), "--net", "--mount", *command]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    def reached(self, ports: Collection[int], *, source: str, there: str, wanted: Collection[int] = ()) -> set[int]:
        """The ports of the server that take a connection from an address; it waits 10 s for those that are wanted."""
        request = json.dumps([source, there, sorted(wanted), sorted(ports)])
        words = ["nsenter", "--target", str(self.client), "--net", sys.executable, "-c", _CONNECT, request]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        return set(json.loads(done.stdout))


@contextmanager
def two_hosts(folder: Path, *, server: Sequence[str], client: Sequence[str], ports: Collection[int]) -> Iterator[Hosts]:
    """A server with those addresses that listens on the ports, and a client with those of its own."""
    with _host("--net", "--mount") as one, _host("--net") as two:
        hosts = Hosts(one, two)
        for name in ("ufw", "default"):
            shutil.copytree(f"/etc/{name}", folder / name, symlinks=True)
            _run(hosts.server, "--mount", "mount", "--bind", str(folder / name), f"/etc/{name}")
        _run(hosts.server, "--net", "ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0", "netns", str(two))
        for pid, link, addresses in ((one, "a0", server), (two, "b0", client)):
            for address in addresses:
                quick = ["nodad"] if ":" in address else []  # it is used at once
                _run(pid, "--net", "ip", "address", "add", address, "dev", link, *quick)
            _run(pid, "--net", "ip", "link", "set", link, "up")
            _run(pid, "--net", "ip", "link", "set", "lo", "up")
        words = ["nsenter", "--target", str(one), "--net", sys.executable, "-c", _LISTEN, *map(str, ports)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as listening:
            try:
                assert listening.stdout and listening.stdout.readline() == "listens\n"  # noqa: PT018
                yield hosts
            finally:
                listening.kill()


def _run(pid: int, namespace: str, *command: str) -> None:
    subprocess.run(["nsenter", "--target", str(pid), namespace, *command], check=True, timeout=30)


@contextmanager
def _host(*namespaces: str) -> Iterator[int]:
    own = Path("/proc/self/ns/net").readlink()
    with subprocess.Popen(["unshare", *namespaces, "sleep", "600"]) as process:
        try:
            link = Path(f"/proc/{process.pid}/ns/net")
            wait_for(lambda: link.readlink() != own, seconds=10)
            yield process.pid
        finally:
            process.kill()
