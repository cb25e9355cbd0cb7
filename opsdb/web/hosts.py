"""The `Host` of a request: who answers only to names that it knows cannot be reached by a foreign web page.

Such a page lets its own name lead to this host once it is loaded (DNS rebinding). The browser then takes the room for
the page's own origin, but still sends the page's name.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv6Address

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]{2,45})\]|(?P<name>[a-z0-9._-]{1,253}))(?::[0-9]{0,5})?")


def host_name(authority: str) -> str | None:
    """The name or address of `host` or `host:port` in one spelling, without the port; None when it is neither."""
    match = AUTHORITY.fullmatch(authority.strip(" \t").lower())
    if match is None:
        return None
    if match["v6"] is not None:
        try:
            return str(IPv6Address(match["v6"]))
        except ValueError:
            return None
    name = match["name"].removesuffix(".")
    return name if name.strip(".") else None


def bare_host_name(word: str) -> str | None:
    """The name or address in one spelling where no port may follow, and IPv6 needs no brackets; else None."""
    return host_name(f"[{word.strip('[]')}]" if ":" in word else word)


def host_refusal(authority: str | None, known: Collection[str]) -> tuple[int, str] | None:
    """Why a request with that `Host` is refused: HTTP status and one line. None when it is not."""
    name = host_name(authority) if authority is not None else None
    if name is None:
        return 400, "the request has no valid Host header\n"
    if name not in known:
        return 421, f"this room does not answer to the host name {name}: add it to OPS_ALLOWED_HOSTS\n"
    return None
