"""Mattermost's incoming webhook, as Apprise spells its address, with what Apprise leaves out.

Apprise calls any 200 a success, a redirect to a login page included, and keeps neither the status nor `Retry-After`.
Here the body must be `ok`, nothing is followed, and the whole exchange ends by a deadline. Nothing here logs: the
address holds the token.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from apprise.plugins.mattermost import MattermostMode, NotifyMattermost

from exporter.alerting.connection import Way, find_way
from exporter.alerting.reasons import failure_of, failure_of_status
from opsdb.alerts.outbox import Failure, Level, Message

SCHEMES = (NotifyMattermost.protocol, NotifyMattermost.secure_protocol)
EXCHANGE_SECONDS = 15.0
"""Longest time for one post, whatever the server does; well below the lease of a delivery."""
OK_BODY = b"ok"


class MattermostWebhook(NotifyMattermost):  # type: ignore[no-untyped-call]  # Apprise is typed in part only
    """Apprise's notifier for Mattermost, which says how a post ended."""

    mention: str = ""
    """Whom a critical message calls, as in `@ops-on-call`; empty for nobody."""

    def post(self, message: Message) -> Failure | None:
        """Post the message once. None when Mattermost took it. Never raises, never logs."""
        calls = self.mention and message.level is Level.CRITICAL
        text = f"{message.body}\n{self.mention}" if calls else message.body
        channel = {"channel": self.targets[0][1]} if self.targets else {}
        icon = {"icon_url": self.icon_url} if self.icon_url else {}
        payload = {"text": text, "username": self.user or "Ops Control Room", **channel, **icon}
        proxied = False
        try:
            seconds = min(self.socket_connect_timeout, EXCHANGE_SECONDS)
            secure, verify = bool(self.secure), bool(self.verify_certificate)
            way = find_way(
                self.host, self.port or (443 if secure else 80), secure=secure, verify=verify, seconds=seconds
            )
            proxied = way.proxied
            return self._exchange(way, json.dumps(payload).encode())
        except (OSError, http.client.HTTPException, ValueError) as error:  # also a host name that cannot be one
            return failure_of(error, proxied=proxied)

    def _exchange(self, way: Way, body: bytes) -> Failure | None:
        connection = way.connection
        own = {"Content-Type": "application/json", "User-Agent": "ops-control-room"}
        with _deadline(connection) as late:
            try:
                connection.request(
                    "POST",
                    f"{way.target}{self.fullpath.rstrip('/')}/hooks/{self.token}",
                    body=body,
                    headers=own | dict(way.headers),
                )
                answer = connection.getresponse()
                return judge(answer.status, answer.headers, answer.read(len(OK_BODY) + 3))
            except (OSError, http.client.HTTPException):
                if late.is_set():
                    raise TimeoutError from None
                raise


def is_webhook(notifier: NotifyMattermost) -> bool:
    """Whether it posts to an incoming webhook; Apprise's bot mode uses another API."""
    return bool(notifier.mode == MattermostMode.WEBHOOK)


def judge(status: int, headers: http.client.HTTPMessage, body: bytes) -> Failure | None:
    """What an answer means. Success is 200 and `ok`, and nothing else."""
    if status == http.client.OK:
        return None if body.strip() == OK_BODY else Failure(reason="unexpected_answer", http_status=status)
    return failure_of_status(status, retry_after_seconds=retry_after(headers))


def retry_after(headers: http.client.HTTPMessage) -> float | None:
    """The seconds that a `Retry-After` asks for: a number, or a date as seen from the answer's own (RFC 9110)."""
    value = (headers.get("Retry-After") or "").strip()
    if value.isdecimal():
        return float(value[:9])
    with suppress(ValueError, TypeError):
        until = parsedate_to_datetime(value)
        now = parsedate_to_datetime(headers["Date"]) if headers.get("Date") else datetime.now(UTC)
        return max(0.0, (until - now).total_seconds())
    return None


@contextmanager
def _deadline(connection: http.client.HTTPConnection) -> Iterator[threading.Event]:
    """Cut the connection after `EXCHANGE_SECONDS`: a socket's own timeout begins again with each byte."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        if connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(EXCHANGE_SECONDS, cut)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        connection.close()
