"""The ports of the room: free before anything starts, and Prefect's held for as long as the supervisor lives.

Prefect's server gets its sockets from the supervisor, over all its restarts: what is sent to that port holds the
room's password, and between two servers another user of the host could take it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Mapping
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
    """Look whether the ports are free on which the room's parts listen.

    Raises UsageError that names all that are taken, and the settings that move them.
    """
    wanted = {
        "prefect_port": (LOOPBACK[0], settings.prefect_port),
        "health_port": (settings.health_address, settings.health_port),
        "exporter_port": (settings.exporter_address, settings.exporter_port),
    }
    if settings.database_address is not None:
        wanted["database_listen"] = settings.database_address
    taken = {}
    for setting, (address, port) in wanted.items():
        try:
            _listen(address, port).close()
        except OSError as error:
            taken[setting] = _why(address, port, error)
    if taken:
        raise _refused(taken)


@contextmanager
def prefect_sockets(settings: Settings) -> Iterator[list[socket.socket]]:
    """Listen on Prefect's port for the length of the block. No child inherits that unless it is given it.

    Raises UsageError when somebody else listens there.
    """
    with ExitStack() as stack:
        sockets = []
        for address in LOOPBACK:
            try:
                sockets.append(stack.enter_context(_listen(address, settings.prefect_port)))
            except OSError as error:
                # where nobody has IPv6, nobody listens on it
                if address != "::1" or error.errno not in NO_SUCH_ADDRESS:
                    raise _refused({"prefect_port": _why(address, settings.prefect_port, error)}) from error
        yield sockets


def _listen(address: str, port: int) -> socket.socket:
    """A socket that listens there. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=2048)


def _why(address: str, port: int, error: OSError) -> str:
    """What keeps the room from a port."""
    taken = error.errno == errno.EADDRINUSE
    return (
        f"port {port} on {address} {f'is in use by {_holder(port)}' if taken else f'cannot be used: {error.strerror}'}"
    )


def _refused(taken: Mapping[str, str]) -> UsageError:
    """An error that names these ports, by their settings."""
    settings = " and ".join(variable(setting) for setting in taken)
    return UsageError(f"{'; '.join(taken.values())}. Hint: stop what listens there, or set {settings}")


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
