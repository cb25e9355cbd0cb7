"""The ports of the room: free before anything starts, and Prefect's held for as long as the supervisor lives.

Prefect's server gets its sockets from the supervisor, over all its restarts: what is sent to that port holds the
room's password, and between two servers another user of the host could take it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from opsdb.errors import UsageError
from opsdb.setting_sources import variable
from opsdb.settings import Settings
from opsdb.shown import shown

PORTS = ("prefect_port", "health_port", "exporter_port")
"""The settings that name a port on which the room listens."""
LOOPBACK = ("127.0.0.1", "::1")
"""Both are Prefect's: a browser asks `localhost` at either, and keeps the password for that name."""
NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def check_ports(settings: Settings) -> None:
    """Look whether the ports are free that the room's parts open themselves.

    Raises UsageError that names the first one which is taken, and the setting that moves it.
    """
    _listen(settings.health_address, settings.health_port, setting="health_port").close()
    _listen(settings.exporter_address, settings.exporter_port, setting="exporter_port").close()
    if settings.database_address is not None:
        address, port = settings.database_address
        _listen(address, port, setting="database_listen").close()


@contextmanager
def prefect_sockets(settings: Settings) -> Iterator[list[socket.socket]]:
    """Listen on Prefect's port for the length of the block. No child inherits that unless it is given it.

    Raises UsageError when somebody else listens there.
    """
    with ExitStack() as stack:
        sockets = []
        for address in LOOPBACK:
            try:
                sockets.append(stack.enter_context(_listen(address, settings.prefect_port, setting="prefect_port")))
            except UsageError as error:
                missing = isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_SUCH_ADDRESS
                if address != "::1" or not missing:  # where nobody has IPv6, nobody listens on it
                    raise
        yield sockets


def _listen(address: str, port: int, *, setting: str) -> socket.socket:
    """A socket that listens there. Raises UsageError that names the setting."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=2048)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = f"is in use by {_holder(port)}" if taken else f"cannot be used: {error.strerror}"
        raise UsageError(
            f"port {port} on {address} {why}. Hint: stop what listens there, or set {variable(setting)}"
        ) from error


def _holder(port: int) -> str:
    """Who listens on a port, as `nginx (pid 12)`: processes of other users are seen by root alone."""
    import psutil  # only where something is wrong

    found = {}
    with suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
                found[one.pid] = psutil.Process(one.pid).name()
    named = [f"{shown(name)} (pid {pid})" for pid, name in sorted(found.items())]
    return ", ".join(named) or "a process of another user, which root can see"
