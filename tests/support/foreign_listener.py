"""Another user of this host, who wants the port of the room's own server, and writes down what he hears."""

from __future__ import annotations

import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import wait_for

OTHER_USER = "nobody"

# the system's Python: another user cannot read the virtual environment
_CODE = """
import socket, sys, threading, time

address, port = sys.argv[1], int(sys.argv[2])
server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
said = None
while True:
    try:
        server.bind((address, port))
        server.listen(512)
        break
    except OSError as error:
        if said is None:
            said = print("refused", error.errno, flush=True) or True
        time.sleep(0.001)
print("listening", flush=True)


def hear(connection):
    connection.settimeout(5)
    try:
        heard = connection.recv(65536)
        if heard:
            print("heard", heard, flush=True)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\nConnection: close\\r\\n\\r\\ntrue")
    except OSError:
        pass
    connection.close()


while True:
    threading.Thread(target=hear, args=(server.accept()[0],), daemon=True).start()
"""


@dataclass
class ForeignListener:
    """He tries for the port a thousand times a second."""

    log: Path

    @property
    def words(self) -> list[str]:
        """What he wrote: `refused ERRNO` at his first try, `listening`, `heard` with the bytes of each request."""
        return self.log.read_text().splitlines()

    @property
    def heard(self) -> list[str]:
        """The requests that he got."""
        return [line for line in self.words if line.startswith("heard")]

    def wait_until(self, word: str) -> None:
        """Return when he has written that word."""
        wait_for(lambda: any(line.startswith(word) for line in self.words), seconds=30, what=f"he is {word}")


@contextmanager
def foreign_listener(port: int, log: Path, *, address: str = "127.0.0.1") -> Iterator[ForeignListener]:
    """Somebody who wants that port, for the length of the block. Needs root: he is another user."""
    other = pwd.getpwnam(OTHER_USER)
    with (
        log.open("wb") as out,
        subprocess.Popen(
            ["/usr/bin/python3", "-I", "-c", _CODE, address, str(port)],
            user=other.pw_uid,
            group=other.pw_gid,
            extra_groups=[],
            cwd="/",
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        found = ForeignListener(log)
        try:
            wait_for(lambda: found.words, seconds=30, what="he has tried")
            yield found
        finally:
            process.kill()
