"""`python -m benchmarks.counting_proxy PORT TARGET LOG`: a loopback proxy that writes a line per HTTP request.

It passes bytes on unchanged and reads only as much of HTTP/1.1 as it takes to see where a request begins. What comes
after an upgrade (Prefect's WebSockets) is passed on unread.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from functools import partial
from typing import TextIO


async def _requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, log: TextIO) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        method, path, _ = first.split(" ", 2)
        upgrade = headers.get("upgrade", "").lower()
        log.write(f"{upgrade.upper() or method} {path}\n")
        log.flush()
        writer.write(head)
        if upgrade:
            await _pass_on(reader, writer)
            return
        if "transfer-encoding" in headers:
            raise ValueError(f"cannot count requests with a chunked body: {first}")
        left = int(headers.get("content-length", 0))
        while left:
            part = await reader.read(min(left, 65536))
            if not part:
                return
            left -= len(part)
            writer.write(part)
        await writer.drain()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while part := await reader.read(65536):
        writer.write(part)
        await writer.drain()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, target: int, log: TextIO) -> None:
    there, there_writer = await asyncio.open_connection("127.0.0.1", target)
    both = [
        asyncio.ensure_future(_requests(reader, there_writer, log)),
        asyncio.ensure_future(_pass_on(there, writer)),
    ]
    done, pending = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for end in (writer, there_writer):
        end.close()
    for task in done:
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # how a connection ends
            task.result()


async def _main(port: int, target: int, path: str) -> None:
    with open(path, "a", encoding="utf-8") as log:  # noqa: ASYNC230, PTH123
        server = await asyncio.start_server(partial(_serve, target=target, log=log), "127.0.0.1", port)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
