"""The links of messages: where they begin, and who can follow them."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from exporter.alerting.markup import quoted
from opsdb.settings import Settings
from opsdb.web.addresses import run_address, runs_address
from opsdb.web.hosts import LOOPBACK, host_name


@dataclass(frozen=True, kw_only=True)
class Links:
    """Links in Markdown."""

    server: str
    """The address with which they begin."""
    only_on: str | None = None
    """The host on which alone they work, since they lead to a loopback address; None when they work elsewhere."""

    def run(self, words: str, run_id: UUID) -> str:
        """A link to the page of a run."""
        return f"[{words}]({run_address(self.server, run_id)})"

    def runs(self, words: str) -> str:
        """A link to the page with all runs."""
        return f"[{words}]({runs_address(self.server)})"

    @property
    def limits(self) -> str:
        """What is to be said behind a link."""
        return f" (on {quoted(self.only_on)} only: OPS_SERVER_URL is not set)" if self.only_on else ""


def links_of(settings: Settings) -> Links:
    """The links that messages of this room have."""
    here = (host_name(urlsplit(settings.server_address).netloc) or "") in LOOPBACK
    return Links(server=settings.server_address, only_on=socket.gethostname() if here else None)
