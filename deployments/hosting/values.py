"""Types of the values that templates take. Each accepts by a list of what is allowed, so that no value can end the
directive, line or string that it is rendered into: newlines, quotes, `;`, `$`, braces and blanks are in none of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from opsdb.setting_types import ServerAddress

SHORTEST_PREFIX = 8
"""A larger network is everybody: 0.0.0.0/1 is half of the world."""


class Values(BaseModel):
    """The values of one template. Unknown ones are refused; `deployments/hosting/values_file.py` words the errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def matching(pattern: str, expected: str) -> AfterValidator:
    """Accept a text that is all of it as the pattern says, else name what was expected."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        raise ValueError(
            "expected an IP address or network without host bits, as in 203.0.113.7 or 10.0.0.0/8"
        ) from None


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError("expected an IP address, as in 127.0.0.53") from None


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _limited(networks: tuple[str, ...]) -> tuple[str, ...]:
    for one in networks:
        if ip_network(one).prefixlen < SHORTEST_PREFIX:
            raise ValueError(f"{one} is everybody: expected the addresses that need it, as in 203.0.113.7")
    return networks


def _https(url: str) -> str:
    if not url.startswith("https://"):
        raise ValueError("expected https://: nothing here is served without TLS")
    return url


def _upstream(url: str) -> str:
    parts = urlsplit(url)
    if parts.path or "[" in url:
        raise ValueError("expected http://host:port or https://host:port, without a path")
    return url


_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
Port = Annotated[int, Field(ge=1, le=65535)]
HostName = Annotated[str, matching(rf"(?:{_LABEL}\.)*{_LABEL}", "a host name, as in ops.example.org")]
UnixPath = Annotated[
    str,
    matching(r"(?!.*/\.\.(?:/|\Z))/[A-Za-z0-9._/@+-]*", "an absolute path of letters, digits and ._/@+-, without `..`"),
]
RelativePath = Annotated[
    str,
    matching(
        r"(?!/)(?!(?:.*/)?\.\.(?:/|\Z))[A-Za-z0-9._/@+-]+",
        "a path within the repository, of letters, digits and ._/@+-, without `..`",
    ),
]
UserName = Annotated[str, matching(r"[a-z_][a-z0-9_-]{0,31}", "the name of a system user, as in ops")]
Slug = Annotated[str, matching(r"[a-z][a-z0-9-]{0,30}[a-z0-9]", "small letters, digits and dashes, as in ops-workers")]
Network = Annotated[str, AfterValidator(_network)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_split)]
"""In a settings file a list; on the command line with commas between."""
LimitedNetworks = Annotated[Networks, AfterValidator(_limited)]
"""Networks that are not everybody."""
Address = Annotated[str, AfterValidator(_address)]
HttpsAddress = Annotated[ServerAddress, AfterValidator(_https)]
Upstream = Annotated[ServerAddress, AfterValidator(_upstream)]

Split: Callable[[object], object] = _split
