"""How an S3-compatible store differs from AWS, and what it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """A request."""

    operation: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Refusal:
    """An answer to a request that holds a word: a header, a word of the query, or of the body."""

    operation: str
    """As in S3's documentation; empty for all."""
    word: str = ""
    """Empty: whatever it holds."""
    status: int = 501
    code: str = "NotImplemented"
    message: str = "A header you provided implies functionality that is not implemented"

    def holds(self, asked: Asked) -> bool:
        if self.operation not in ("", asked.operation):
            return False
        in_body = asked.operation == "CompleteMultipartUpload" and self.word.encode() in asked.body
        return not self.word or self.word in asked.headers or self.word in asked.query or in_body


@dataclass(frozen=True)
class Manners:
    """How a store differs from AWS."""

    refusals: tuple[Refusal, ...] = ()
    ignores: frozenset[str] = frozenset()
    """Headers and words of the query that it does not know, and takes all the same."""
    stripped: frozenset[str] = frozenset()
    """Headers that a proxy before it takes away."""
    etags: str = "md5"
    """`md5`, `opaque` or `none`."""
    sums: str = "composite"
    """What it says of an object that was sent with sums: `composite`, `whole`, `crc` or `none`."""
    sums_in_list: bool = True
    """Whether the list that completes an upload must hold the sums of the parts that had some."""
    echoes: bool = False
    """Whether it says the sums that it was told, and compares nothing."""
    lenient: bool = False
    """Whether it takes a part without a sum that was promised, and misses it at the end."""
    damages: bool = False
    """Whether one bit of each body changes as it is taken."""
    host: str = ""
    """Requests without the bucket before this name are refused."""


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message
