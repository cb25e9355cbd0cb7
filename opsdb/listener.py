"""Whose listener answers on a port of this host (Linux). What the room sends to Prefect's port holds its password."""

from __future__ import annotations

import os
import pwd
import select
import socket
import sys
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from opsdb.errors import RoomUnreachableError

LOOPBACK = "127.0.0.1"
CONNECT_MILLISECONDS = 200
TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
"""Of this process's own network namespace. Anybody may read them."""

_LISTEN = "0A"
_guarded: set[int] = set()
_connect = socket.socket.connect


class UntrustedListenerError(RoomUnreachableError, ConnectionRefusedError):
    """Another user of this host listens where the room should, or nobody can see who does.

    To whoever connects it is a refused connection.
    """


def check_listener(port: int, *, address: str = LOOPBACK) -> bool:
    """Whether anybody listens on a port of this host.

    Raises UntrustedListenerError when that is neither this user nor root.
    """
    try:
        owners = listening_users(_tables(), port, address)
    except OSError as error:
        raise UntrustedListenerError(
            f"who listens on port {port} cannot be seen ({error}): nothing was sent. Give this process a /proc"
        ) from error
    foreign = owners - {0, os.geteuid()}
    if foreign:
        raise UntrustedListenerError(
            f"port {port} on {address} belongs to {_name(min(foreign))}, another user of this host: nothing was sent. "
            "Stop what listens there, then start the room with `ops up`"
        )
    return bool(owners)


def guard(port: int) -> None:
    """From now on, refuse each connection of this process to that port on loopback that a foreign listener took.

    Each, not only the first: when the whole room is killed, somebody else can take the port before the last of its
    processes has ended. For sockets of any kind, since Prefect opens connections in many places.
    """
    _guarded.add(port)
    socket.socket.connect = _connect_guarded  # type: ignore[assignment, method-assign]


def listening_users(tables: Iterable[str], port: int, address: str) -> set[int]:
    """The user ids of those that a connection to the address would reach. The tables are as in /proc/net/tcp.

    The kernel prefers a listener on the very address to one on all addresses, and lets several share an address only
    if one user has them all. So the first table that has the very address decides, and the next one is not read.
    """
    wanted = _plain(ip_address(address))
    everywhere: set[int] = set()
    suffix = f":{port:04X}"
    for table in tables:
        exact: set[int] = set()
        for line in table.splitlines()[1:]:
            fields = line.split()
            if fields[3] != _LISTEN or not fields[1].endswith(suffix):
                continue
            found = _plain(_decoded(fields[1].removesuffix(suffix)))
            if found == wanted:
                exact.add(int(fields[7]))
            elif found.is_unspecified and found.version >= wanted.version:  # :: takes IPv4 as well
                everywhere.add(int(fields[7]))
        if exact:
            return exact
    return everywhere


def _tables() -> Iterator[str]:
    """What the kernel lists, IPv4 first; where there is no IPv6, no second table."""
    first, second = TABLES
    yield first.read_text()
    if second.exists():
        yield second.read_text()


def _connect_guarded(self: socket.socket, address: Any) -> None:
    guarded = isinstance(address, tuple) and address[0] == LOOPBACK and address[1] in _guarded
    try:
        _connect(self, address)
    except BlockingIOError:
        if guarded:
            _wait_connected(self)
            _refuse_foreign(address[1])
        raise
    if guarded:
        _refuse_foreign(address[1])


def _wait_connected(connection: socket.socket) -> None:
    """Return when somebody has taken a connection that was begun: on loopback at once, as a rule."""
    waiting = select.poll()
    waiting.register(connection, select.POLLOUT)
    waiting.poll(CONNECT_MILLISECONDS)


def _refuse_foreign(port: int) -> None:
    """Look whose listener took the connection that was just made: after that, since before it may change."""
    if not check_listener(port):
        raise ConnectionRefusedError(f"nobody listens any more on {LOOPBACK} port {port}")


def _decoded(words: str) -> IPv4Address | IPv6Address:
    """An address as the kernel writes it: words of 32 bits, each in the order of this machine's bytes."""
    raw = bytes.fromhex(words)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return ip_address(raw)


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Without the dress of an IPv4 address in IPv6, ::ffff:127.0.0.1."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
