"""A small HTTP server whose clients cannot take it from each other, however slow they are and however many.

One thread waits for all clients; a few answer whole requests. A client has `CLIENT_SECONDS` for its whole request, and
as many to take the answer. Where more than `CONNECTIONS` are open, the client that has kept the server waiting longest
is sent away: never one whose answer is being made. One request a connection.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

import h11

from opsdb.web.bursts import Burst
from opsdb.web.hosts import host_refusal

log = logging.getLogger(__name__)

CLIENT_SECONDS = 5.0
CONNECTIONS = 128
ANSWERING = 32
"""How many requests are answered at once; further ones wait."""
HEADER_BYTES = 16 * 1024
READ_BYTES = 4096

SAFE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} | {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}


@dataclass(frozen=True)
class Request:
    """A GET or HEAD: path without its query, headers by lower-case name, the client's IP address."""

    path: str
    headers: Mapping[str, str]
    client: str
    head: bool = False
    """Whether only the head of the answer is wanted. The server leaves the body out."""


@dataclass(frozen=True)
class Answer:
    """What a client gets."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpServer:
    """Answers from threads of its own. Use as a context manager. Raises OSError when the address cannot be had.

    `hosts` are the host names to which it answers; None is all of them. `answer` may be called by several threads.
    """

    def __init__(
        self,
        address: str,
        port: int,
        answer: Callable[[Request], Answer],
        *,
        hosts: Collection[str] | None,
        tls: ssl.SSLContext | None = None,
        name: str,
    ) -> None:
        self._answer = answer
        self._hosts = hosts
        self._tls = tls
        self._name = name
        self._socket = _listen(address, port)
        self._pool = ThreadPoolExecutor(ANSWERING, thread_name_prefix=f"{name}-answer")
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._accepting: asyncio.Future[None] | None = None
        self._started = threading.Event()
        self._open: set[asyncio.Task[None]] = set()
        self._waiting: dict[asyncio.Task[None] | None, None] = {}
        """The clients that the server waits for, longest first."""
        self._crowd, self._strangers = Burst(), Burst()

    def __enter__(self) -> HttpServer:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._accepting is not None:
            self._loop.call_soon_threadsafe(self._accepting.cancel)
        self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._socket.close()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._accepting = asyncio.ensure_future(self._accept())
        self._started.set()
        with suppress(asyncio.CancelledError):
            await self._accepting

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(self._socket)
            except OSError as error:  # no descriptor is left, or the client went away
                log.debug("%s: %s", self._name, error)
                await asyncio.sleep(0.1)
                continue
            if len(self._open) >= CONNECTIONS and not self._send_one_away():
                client.close()
            else:
                task = loop.create_task(self._serve(client, address[0]))
                self._open.add(task)
                self._waiting[task] = None
                task.add_done_callback(lambda done, client=client: self._forget(done, client))  # type: ignore[misc]
            await asyncio.sleep(0)  # those that are here already come first

    def _send_one_away(self) -> bool:
        task = next(iter(self._waiting), None)
        if task is None:
            return False
        if self._crowd.begins():
            log.warning("%s: more than %d connections; the slowest clients are sent away", self._name, CONNECTIONS)
        task.cancel()
        self._waiting.pop(task)
        self._open.discard(task)
        return True

    def _forget(self, task: asyncio.Task[None], client: socket.socket) -> None:
        self._open.discard(task)
        self._waiting.pop(task, None)
        client.close()  # for a task that was cancelled before it began; else its transport has done it

    async def _serve(self, client: socket.socket, address: str) -> None:
        """Answer one client. Whatever it does concerns nobody else."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(CLIENT_SECONDS):
                reader, writer = await self._connect(client)
                parser = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_BYTES)
                received = await _receive(reader, parser, address)
            if isinstance(received, Request):
                answer, head = self._refusal(received) or await self._make(received), received.head
            else:
                answer, head = received, False
            async with asyncio.timeout(CLIENT_SECONDS):
                writer.write(_encode(answer, parser, head=head))
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, h11.ProtocolError) as error:  # TimeoutError and SSLError are OSErrors
            log.debug("%s: client %s: %r", self._name, address, error)
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _connect(self, client: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            client,
            ssl=self._tls,
            ssl_handshake_timeout=CLIENT_SECONDS if self._tls else None,
            ssl_shutdown_timeout=CLIENT_SECONDS if self._tls else None,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def _refusal(self, request: Request) -> Answer | None:
        if self._hosts is None:
            return None
        refusal = host_refusal(request.headers.get("host"), self._hosts)
        if refusal is None:
            return None
        status, line = refusal
        if self._strangers.begins():
            log.warning("%s: request of %s refused: %s", self._name, request.client, line.strip())
        return Answer(status, line.encode())

    async def _make(self, request: Request) -> Answer:
        """Have it answered by another thread. The client waits for us meanwhile, and is not sent away."""
        task = asyncio.current_task()
        self._waiting.pop(task, None)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, request)
        except Exception:
            log.exception("%s: request for %.100s", self._name, request.path)
            return Answer(500, b"internal error, see the log\n")
        finally:
            self._waiting[task] = None


async def _receive(reader: asyncio.StreamReader, parser: h11.Connection, client: str) -> Request | Answer:
    """The request, or why there is none. Raises EOFError when the client goes away before it has sent it."""
    try:
        while (event := parser.next_event()) is h11.NEED_DATA:
            parser.receive_data(await reader.read(READ_BYTES))
    except h11.RemoteProtocolError as error:
        return Answer(error.error_status_hint, f"{error}\n".encode())
    if isinstance(event, h11.Request):
        return _request(event, client)
    raise EOFError


def _request(event: h11.Request, client: str) -> Request | Answer:
    target = event.target.decode("latin-1")
    if not target.startswith("/"):
        return Answer(400, b"the request's target is not a path\n")
    if event.method not in (b"GET", b"HEAD"):
        return Answer(405, b"this port answers GET and HEAD only\n", {"Allow": "GET, HEAD"})
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
    return Request(path=target.partition("?")[0], headers=headers, client=client, head=event.method == b"HEAD")


def _encode(answer: Answer, parser: h11.Connection, *, head: bool) -> bytes:
    headers = {"Content-Type": "text/plain; charset=utf-8", **SAFE, **answer.headers}
    headers |= {"Content-Length": str(len(answer.body)), "Connection": "close"}
    begin = parser.send(h11.Response(status_code=answer.status, headers=list(headers.items()))) or b""
    return begin if head else begin + answer.body


def _listen(address: str, port: int) -> socket.socket:
    """A socket that listens there. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family, backlog=CONNECTIONS)
    listener.setblocking(False)
    return listener
