"""Signature version 4, as a store computes it of a request that arrived."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from functools import reduce
from urllib.parse import urlsplit

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<scope>[^,]+), SignedHeaders=(?P<names>[^,]+), Signature=(?P<it>\w+)"
)


def is_signed(method: str, target: str, headers: Mapping[str, str], body: bytes, *, key_id: str, secret: str) -> bool:
    """Whether the key signed it: `target` is path and query as they arrived, header names are in lower case."""
    found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    hashed = headers.get("x-amz-content-sha256", "")
    if not found or found["id"] != key_id or hashed not in ("UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()):
        return False
    parts = urlsplit(target)
    pairs = sorted(one if "=" in one else f"{one}=" for one in parts.query.split("&") if one)
    names = found["names"].split(";")
    signed = "".join(f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in names)
    canonical = "\n".join([method, parts.path, "&".join(pairs), signed, found["names"], hashed])
    date, region, service, end = found["scope"].split("/")
    text = "\n".join(
        ["AWS4-HMAC-SHA256", headers["x-amz-date"], found["scope"], hashlib.sha256(canonical.encode()).hexdigest()]
    )
    key = reduce(_hmac, (date, region, service, end), f"AWS4{secret}".encode())
    return hmac.compare_digest(_hmac(key, text).hex(), found["it"])


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
