"""A connection for one HTTP exchange: straight, or by the proxy that the environment names, as other programs do."""

from __future__ import annotations

import base64
import http.client
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit


class ProxyError(ValueError):
    """The environment names a proxy of another kind than `http://`."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a server is reached. `target` is what stands before the path, `headers` what the proxy needs to know."""

    connection: http.client.HTTPConnection
    target: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    proxied: bool = False


def find_way(host: str, port: int, *, secure: bool, verify: bool, seconds: float) -> Way:
    """The way to a server, not connected yet. HTTPS_PROXY, HTTP_PROXY and NO_PROXY count, in either case.

    ALL_PROXY does not: it mostly names one of another kind. Raises ProxyError for a proxy of another scheme than http.
    """
    proxy = _proxy(host, port, "https" if secure else "http")
    via = (proxy.hostname or "", proxy.port or 80) if proxy else (host, port)
    headers = _credentials(proxy) if proxy else {}
    if not secure:
        plain = http.client.HTTPConnection(*via, timeout=seconds)
        if proxy is None:
            return Way(connection=plain)
        named = f"[{host}]" if ":" in host else host
        return Way(connection=plain, target=f"http://{named}:{port}", headers=headers, proxied=True)
    trust = ssl.create_default_context()
    if not verify:
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(*via, timeout=seconds, context=trust)
    if proxy is not None:
        connection.set_tunnel(host, port, headers=headers)
    return Way(connection=connection, proxied=proxy is not None)


def _proxy(host: str, port: int, scheme: str) -> SplitResult | None:
    url = urllib.request.getproxies().get(scheme)
    if not url or urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        usable = parts.scheme == "http" and parts.hostname and parts.port != 0
    except ValueError:  # it, or its port, is not a valid address
        usable = False
    if not usable:
        raise ProxyError("the proxy is not http://host:port")
    return parts


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
