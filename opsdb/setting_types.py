"""Types of settings: what each accepts, and how it is read from an environment variable."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from opsdb.web.hosts import bare_host_name, host_name

WORDS = "words between blanks"
"""Marks a text that is a list: in a settings file it may be one."""


def expanded(path: str | Path) -> Path:
    """A path with the home of its user in place of `~`. Raises ValueError for one that cannot be a path."""
    if "\0" in str(path):
        raise ValueError("a path cannot hold a NUL character")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{Path(path).parts[0]} has no home folder on this host: write the whole path") from None


Port = Annotated[int, Field(ge=1, le=65535)]
AbsolutePath = Annotated[Path, AfterValidator(lambda path: expanded(path).absolute())]


def is_import_name(text: str) -> bool:
    """Whether it is written as Python names a package, `team.runbooks`: a folder is written with a slash."""
    return all(part.isidentifier() for part in text.split("."))


def _runbook_place(value: Path | str) -> Path | str:
    if isinstance(value, str) and is_import_name(value):
        return value
    if isinstance(value, str) and "/" not in value and not value.startswith(("~", ".")):
        raise ValueError(f"{value!r} is not the import name of a package; a folder has a slash, as in ./{value}")
    return expanded(value).absolute()


RunbookPlace = Annotated[Path | str, BeforeValidator(_runbook_place)]
IpAddress = Annotated[str, AfterValidator(lambda address: str(ip_address(address)))]

_LOOPBACK_PORT = re.compile(r"(?:(?P<host>localhost|127\.[0-9.]{5,11}|\[::1\]):)?(?P<port>[0-9]{1,5})")


def _loopback_port(value: str) -> str:
    match = _LOOPBACK_PORT.fullmatch(value)
    host = (match["host"] or "127.0.0.1").replace("localhost", "127.0.0.1").strip("[]") if match else ""
    if match is None or not _is_loopback(host) or not 1 <= int(match["port"]) <= 65535:
        raise ValueError(f"{value!r} is not a port of loopback; expected one as in 127.0.0.1:5433")
    return f"{f'[{host}]' if ':' in host else host}:{int(match['port'])}"


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


_PRIVATE = [
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")  # RFC 1918, 6598, 4193
]


def _private_address(value: str) -> str:
    try:
        address = ip_address(value)
    except ValueError:
        address = None
    if address is None or not (address.is_loopback or any(address in network for network in _PRIVATE)):
        raise ValueError(
            "expected an IP address of loopback or of a private network, as in 10.0.0.5; 0.0.0.0 is all of them"
        )
    return str(address)


PrivateAddress = Annotated[str, AfterValidator(_private_address)]
LoopbackPort = Annotated[str, AfterValidator(_loopback_port)]


def _paths(value: object) -> object:
    return [part for part in value.split(":") if part] if isinstance(value, str) else value


def _absolute(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    if wrong := [str(path) for path in paths if not path.is_absolute() or ".." in path.parts]:
        raise ValueError(f"expected absolute paths without `..`, with colons between, not {', '.join(wrong)}")
    return paths


AbsolutePaths = Annotated[tuple[Path, ...], BeforeValidator(_paths), AfterValidator(_absolute)]


def _web_address(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("http://", "https://")):
        raise ValueError("expected http:// or https://")
    return value


_REPOSITORY = re.compile(r"https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?/([A-Za-z0-9_][A-Za-z0-9_.-]*(/|\Z))*")


def _repositories(value: str) -> str:
    for number, entry in enumerate(value.split(), 1):
        if not _REPOSITORY.fullmatch(entry):  # it may hold a password, and is not shown
            raise ValueError(
                f"entry {number}: expected https://host/path without user, port and `..`; blanks separate entries"
            )
    return " ".join(value.split())


Repositories = Annotated[str, AfterValidator(_repositories), WORDS]


def _host_names(value: str) -> str:
    for word in value.split():
        if bare_host_name(word) is None:
            raise ValueError(f"{word!r} is not a host name or IP address; expected them without port, between blanks")
    return value


HostNames = Annotated[str, AfterValidator(_host_names), WORDS]
Thresholds = Annotated[str, WORDS]
_MENTION = re.compile(r"@[a-z0-9][a-z0-9._-]{0,63}")


def _mentions(value: str) -> str:
    names = value.split()
    if wrong := [name for name in names if not _MENTION.fullmatch(name)]:
        raise ValueError(f"{wrong[0]!r} is not a mention: expected names of users or groups, as in `@ops-on-call`")
    return " ".join(names)


Mention = Annotated[str, AfterValidator(_mentions), WORDS]


def _server_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        valid = _SERVER.fullmatch(value) and host_name(parts.netloc) and (parts.port is None or parts.port > 0)
    except ValueError:  # an invalid port
        valid = False
    if not valid or ".." in parts.path.split("/"):
        raise ValueError("expected http://host or https://host, with a port or a path if it has one")
    address = value.rstrip("/")
    if address.endswith(("/api", "/v2")):  # of Prefect's API, and of one of its two UIs
        raise ValueError(f"expected the address of the room, {address.rpartition('/')[0]}")
    return address


_SERVER = re.compile(r"https?://[A-Za-z0-9._:\[\]-]{1,190}(?:/[A-Za-z0-9._~-]{1,64}){0,8}/?")
ServerAddress = Annotated[str, AfterValidator(_server_address)]
"""Where operators reach the room, without a slash at the end."""
SecretWebAddress = Annotated[SecretStr, AfterValidator(_web_address)]
