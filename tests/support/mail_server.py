"""A local mail server that takes a message, or refuses it in one of the ways that mail servers do."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class MailServer:
    """Its side: what it took, and how it answers.

    A mood is: take, login (the password is wrong), user (the recipient is unknown), later (try again), hang.
    """

    mood: str = "take"
    port: int = 0
    mails: list[bytes] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Its address, as Apprise spells it."""
        ends = "from=room@example.org&to=ops@example.org&mode=insecure"
        return f"mailto://room:s3cret-password@127.0.0.1:{self.port}?{ends}&smtp=127.0.0.1"


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        mail: MailServer = self.server.mail  # type: ignore[attr-defined]  # see `mailing`
        if mail.mood == "hang":
            mail.closing.wait(30)
            return
        self._say("220 mail.example.org")
        with contextlib.suppress(OSError):
            while line := self.rfile.readline():
                words = line.decode(errors="replace").split()
                if not self._answer(mail, (words or [""])[0].upper()):
                    return

    def _answer(self, mail: MailServer, verb: str) -> bool:
        """Answer one line. False at the end."""
        answers = {"MAIL": "250 ok", "RCPT": "250 ok", "AUTH": "235 ok", "RSET": "250 ok", "NOOP": "250 ok"}
        if mail.mood == "login":
            answers["AUTH"] = "535 5.7.8 authentication failed"
        elif mail.mood in ("user", "later"):
            answers["RCPT"] = "550 5.1.1 no such user" if mail.mood == "user" else "451 4.7.1 try again later"
        if verb == "EHLO":
            self._say("250-mail.example.org")
            self._say("250 AUTH PLAIN")
        elif verb == "DATA":
            self._say("354 go on")
            body = b""
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                body += line.removeprefix(b".")  # the client doubles it where a line begins with one
            mail.mails.append(body)
            self._say("250 taken")
        elif verb == "QUIT":
            self._say("221 bye")
            return False
        else:
            self._say(answers.get(verb, "502 unknown"))
        return True

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that went away


@contextmanager
def mailing(mail: MailServer) -> Iterator[MailServer]:
    """Serve for a while."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.mail = mail  # type: ignore[attr-defined]  # what the handler needs
        mail.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield mail
        finally:
            mail.closing.set()
            server.shutdown()
            thread.join(5)
