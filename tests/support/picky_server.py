"""The HTTP of a picky store: what a request asks for, and whether it is signed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.picky_store import KEY_ID, SECRET, PickyStore, xml
from tests.support.signatures import is_signed
from tests.support.store_manners import Asked, RefusedError


@contextmanager
def serving(store: PickyStore) -> Iterator[PickyStore]:
    """The store answers on a port of its own for the length of the block."""

    class Handler(_Handler):
        kept = store

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        store.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield store
        finally:
            server.shutdown()
            thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: the second would wait 40 ms for the first
    kept: PickyStore

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def handle_expect_100(self) -> bool:
        asked_for = super().handle_expect_100()
        self.wfile.flush()
        return asked_for

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            headers, answer = self.kept.answer(self._asked(body))
            status = 204 if self.command == "DELETE" else 206 if "Content-Range" in headers else 200
        except RefusedError as refused:
            status, headers = refused.status, {}
            answer = xml("Error", Code=refused.code, Message=refused.message) if refused.code else b""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(answer))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one  # noqa: N815 - as http.server calls them

    def _asked(self, body: bytes) -> Asked:
        manners = self.kept.manners
        headers = {name.lower(): value for name, value in self.headers.items()}
        passed = {name: value for name, value in headers.items() if name not in manners.stripped}
        if not is_signed(self.command, self.path, passed, body, key_id=KEY_ID, secret=SECRET):
            raise RefusedError(403, "SignatureDoesNotMatch", "The request signature we calculated does not match")
        parts = urlsplit(self.path)
        if not parts.path.startswith(f"{self.kept.path}/"):
            raise RefusedError(404, "", "")
        bucket, _, key = unquote(parts.path.removeprefix(f"{self.kept.path}/")).partition("/")
        if manners.host:
            before = headers["host"].partition(":")[0].removesuffix(manners.host)
            if not before:
                raise RefusedError(403, "SecondLevelDomainForbidden", "Please use virtual hosted style to access.")
            bucket, key = before.removesuffix("."), unquote(parts.path).removeprefix("/")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return Asked(_operation(self.command, key, query), bucket, key, query, passed, body)


def _operation(method: str, key: str, query: dict[str, str]) -> str:
    if not key:
        listings = {"uploads": "ListMultipartUploads", "list-type": "ListObjectsV2"}
        return next((name for word, name in listings.items() if word in query), "ListObjects")
    if "uploadId" in query:
        return {
            "PUT": "UploadPart",
            "POST": "CompleteMultipartUpload",
            "DELETE": "AbortMultipartUpload",
        }[method]
    return {
        "GET": "GetObject",
        "HEAD": "HeadObject",
        "PUT": "PutObject",
        "POST": "CreateMultipartUpload",
        "DELETE": "DeleteObject",
    }[method]
