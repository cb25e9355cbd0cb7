"""Whose listener answers on a port: tables as the kernel writes them, real listeners, and clients that send nothing."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect as connect_websocket

from opsdb.listener import UntrustedListenerError, check_listener, guard, listening_users
from tests.support.foreign_listener import OTHER_USER, ForeignListener, foreign_listener
from tests.support.programs import needs_root

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
PORT = 4200
ANY = "0.0.0.0"  # noqa: S104  # what others may listen on
V4 = {"127.0.0.1": "0100007F", ANY: "00000000", "192.168.1.5": "0501A8C0"}
V6 = {
    "::": "0" * 32,
    "::1": "0" * 24 + "01000000",
    "::ffff:127.0.0.1": "0000000000000000FFFF00000100007F",
    "::ffff:0.0.0.0": "0000000000000000FFFF000000000000",
}
LISTEN, ESTABLISHED, TIME_WAIT = "0A", "01", "06"


def table(addresses: dict[str, str], *rows: tuple[str, int, str, int]) -> str:
    """A table with rows of address, port, state and uid."""
    lines = [
        f"   {number}: {addresses[address]}:{port:04X} {'0' * len(addresses[address])}:0000 {state} "
        f"00000000:00000000 00:00000000 00000000  {uid}        0 1234 1 0000000000000000 100 0 0 10 0\n"
        for number, (address, port, state, uid) in enumerate(rows)
    ]
    return HEAD + "".join(lines)


@pytest.mark.parametrize(
    ("v4", "v6", "expected"),
    [
        ([], [], set()),
        ([("127.0.0.1", PORT, LISTEN, 7)], [], {7}),
        ([(ANY, PORT, LISTEN, 7)], [], {7}),
        ([], [("::", PORT, LISTEN, 7)], {7}),
        ([], [("::ffff:127.0.0.1", PORT, LISTEN, 7)], {7}),
        ([], [("::ffff:0.0.0.0", PORT, LISTEN, 7)], {7}),
        ([(ANY, PORT, LISTEN, 7)], [("::", PORT, LISTEN, 8)], {7, 8}),
        ([("127.0.0.1", PORT, LISTEN, 7), ("127.0.0.1", PORT, LISTEN, 8)], [], {7, 8}),
        # the very address is what the kernel takes
        ([("127.0.0.1", PORT, LISTEN, 7), (ANY, PORT, LISTEN, 8)], [("::", PORT, LISTEN, 8)], {7}),
        ([(ANY, PORT, LISTEN, 7)], [("::ffff:127.0.0.1", PORT, LISTEN, 8)], {8}),
        # others: another port, another address, a connection
        ([("127.0.0.1", PORT + 1, LISTEN, 7), ("192.168.1.5", PORT, LISTEN, 7)], [("::1", PORT, LISTEN, 7)], set()),
        ([("127.0.0.1", PORT, ESTABLISHED, 7), ("127.0.0.1", PORT, TIME_WAIT, 0)], [], set()),
    ],
)
def test_listeners_are_those_that_a_connection_would_reach(
    v4: list[tuple[str, int, str, int]], v6: list[tuple[str, int, str, int]], expected: set[int]
) -> None:
    assert listening_users([table(V4, *v4), table(V6, *v6)], PORT, "127.0.0.1") == expected


def test_ipv6_is_reached_by_ipv6_alone() -> None:
    v4 = table(V4, (ANY, PORT, LISTEN, 7), ("127.0.0.1", PORT, LISTEN, 7))
    assert listening_users([v4, table(V6, ("::1", PORT, LISTEN, 8), ("::", PORT, LISTEN, 9))], PORT, "::1") == {8}
    assert listening_users([v4, table(V6, ("::", PORT, LISTEN, 9))], PORT, "::1") == {9}


@pytest.mark.parametrize("address", ["127.0.0.1", ANY, "::ffff:127.0.0.1", "::"])
def test_own_listener_is_found_in_each_form(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as server:
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind((address, 0))
        port = server.getsockname()[1]
        assert not check_listener(port)
        server.listen()
        assert check_listener(port)


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[tuple[int, ForeignListener]]:
    """A port, and another user's listener on it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with foreign_listener(port, tmp_path / "heard") as listener:
        listener.wait_until("listening")
        yield port, listener


@needs_root
@pytest.mark.parametrize("address", ["127.0.0.1", ANY, "::ffff:127.0.0.1", "::"])
def test_foreign_listener_is_named_with_port_and_user(tmp_path: Path, address: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with foreign_listener(port, tmp_path / "heard", address=address) as listener:
        listener.wait_until("listening")
        with pytest.raises(UntrustedListenerError, match=rf"port {port} on 127.0.0.1 belongs to {OTHER_USER} \(uid"):
            check_listener(port)


def test_listener_that_cannot_be_seen_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("opsdb.listener.TABLES", (tmp_path / "tcp", tmp_path / "tcp6"))
    with pytest.raises(UntrustedListenerError, match="who listens on port 4200 cannot be seen"):
        check_listener(PORT)
    (tmp_path / "tcp").write_text(table(V4, ("127.0.0.1", PORT, LISTEN, 0)))  # a host without IPv6
    assert check_listener(PORT)


@needs_root
def test_listener_of_root_is_trusted_by_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
        assert check_listener(server.getsockname()[1])


def _get(port: int) -> None:
    with httpx.Client(auth=("ops", "secret"), trust_env=False) as http:
        http.get(f"http://127.0.0.1:{port}/api/health")


def _get_in_a_loop(port: int) -> None:
    async def get() -> None:
        async with httpx.AsyncClient(auth=("ops", "secret"), trust_env=False) as http:
            await http.get(f"http://127.0.0.1:{port}/api/health")

    asyncio.run(get())


def _open_websocket(port: int) -> None:
    async def connect() -> None:
        async with connect_websocket(f"ws://127.0.0.1:{port}/api/events/out"):
            pass

    asyncio.run(connect())


@needs_root
@pytest.mark.promise(13)
@pytest.mark.parametrize("send", [_get, _get_in_a_loop, _open_websocket])
def test_guarded_process_sends_nothing_to_a_foreign_listener(
    foreign: tuple[int, ForeignListener], send: Callable[[int], None]
) -> None:
    port, listener = foreign
    guard(port)
    with pytest.raises((httpx.ConnectError, OSError)):
        send(port)
    assert listener.heard == []
