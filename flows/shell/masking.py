"""Secrets in a step's output: how programs may spell them, and the mask that takes their place."""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

from opsdb.errors import UsageError

MASK = b"***"
SHORTEST_SECRET = 6  # characters: masking a shorter one would tear harmless text apart and give it away by its gaps


class SecretPatterns:
    """The spellings of a step's secrets, built once for all its streams."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """Raises UsageError, which names the secret and never its value, for one that cannot be masked."""
        spellings: set[bytes] = set()
        digits: set[bytes] = set()
        for name, value in secrets.items():
            if len(value.strip()) < SHORTEST_SECRET:
                raise UsageError(
                    f"secret {name} has fewer than {SHORTEST_SECRET} characters: too short to be masked in output"
                )
            try:
                spellings |= _spellings(value)
                digits |= _digits(value)
            except UnicodeEncodeError:
                raise UsageError(f"secret {name} cannot be written as UTF-8") from None  # it would quote the value
        self.spellings = sorted(spellings | digits)
        self._digits = sorted(digits)
        self._first_bytes = re.compile(b"|".join({re.escape(one[:1]) for one in self.spellings}))
        self._reach = max([0, *map(len, self.spellings), *(2 * len(one) for one in digits)])

    def places(self, data: bytes) -> list[tuple[int, int]]:
        """Where spellings begin and end, in order; they may overlap."""
        found = [(at, at + len(one)) for one in self.spellings for at in _places(data, one)]
        if b"\n" in data:
            joined = data.replace(b"\n", b"")  # quick to search, where the expression is not
            for one in self._digits:
                if one in joined:
                    found += [match.span(1) for match in re.finditer(_in_lines(one), data)]
        return sorted(found)

    def first_undecided(self, data: bytes) -> int:
        """The first position from which the rest of the data is the beginning of a spelling, but not all of it."""
        for found in self._first_bytes.finditer(data, max(0, len(data) - self._reach)):
            rest = data[found.start() :]
            if _begins_one(rest, self.spellings) or _begins_one(rest.replace(b"\n", b""), self._digits):
                return found.start()
        return len(data)

    def mask(self, text: str) -> str:
        """A whole text, apart from any stream."""
        masker = SecretMasker(self)
        return (masker.feed(text.encode()) + masker.close()).decode()


class SecretMasker:
    """Replaces secrets in a stream of bytes by `***`, also where a read cuts them in two.

    Every stretch that is covered by secrets becomes one mask. Only bytes that may be the beginning of a secret are
    held back, and the output depends on the stream alone, not on how it was split.
    """

    def __init__(self, patterns: SecretPatterns) -> None:
        self._patterns = patterns
        self._held = b""
        self._covered = 0  # how many of the held bytes belong to a stretch that is masked already

    def feed(self, data: bytes) -> bytes:
        """The masked bytes that are certain by now."""
        if not self._patterns.spellings:
            return data
        buffer = self._held + data
        return self._advance(buffer, self._patterns.first_undecided(buffer))

    def close(self) -> bytes:
        """The rest, when the stream is over."""
        return self._advance(self._held, len(self._held))

    def _advance(self, buffer: bytes, safe: int) -> bytes:
        covered = self._covered
        parts: list[bytes] = []
        for start, end in self._patterns.places(buffer):
            if start >= safe:
                break
            if start >= covered:
                parts += [buffer[covered:start], MASK]
            covered = max(covered, end)
        parts.append(buffer[covered:safe])
        self._held, self._covered = buffer[safe:], max(0, covered - safe)
        return b"".join(parts)


def _places(data: bytes, spelling: bytes) -> Iterator[int]:
    """Where a spelling stands, in order, also where it overlaps itself."""
    at = data.find(spelling)
    while at > -1:
        yield at
        at = data.find(spelling, at + 1)


def _in_lines(digits: bytes) -> bytes:
    """An expression for base64 in which lines may break, as group 1; it finds what overlaps, too."""
    return b"(?=(" + b"\n?".join(re.escape(bytes([digit])) for digit in digits) + b"))"


def _begins_one(rest: bytes, spellings: list[bytes]) -> bool:
    """Whether one of these, which are sorted, begins with the rest and goes on."""
    following = bisect_right(spellings, rest)
    return following < len(spellings) and spellings[following].startswith(rest)


def _spellings(secret: str) -> set[bytes]:
    """A secret as programs print it: as it is, by line, in a URL, in JSON."""
    spellings = {line.strip() for line in secret.splitlines() if len(line.strip()) >= SHORTEST_SECRET}
    for text in (secret, secret.strip()):
        urls = {quote(text, safe=""), quote(text), quote_plus(text)}
        urls |= {re.sub("%..", lambda escape: escape[0].lower(), url) for url in urls}
        spellings |= {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]} | urls
    return {one.encode() for one in spellings}


def _digits(secret: str) -> set[bytes]:
    """A secret in base64, alone and within something longer."""
    raw, stripped = secret.encode(), secret.strip().encode()
    digits = {base64.b64encode(raw), base64.b64encode(stripped)}
    digits |= {_base64_within(stripped, offset) for offset in range(3)}
    return digits | {one.translate(bytes.maketrans(b"+/", b"-_")) for one in digits}


def _base64_within(raw: bytes, offset: int) -> bytes:
    """The base64 digits that depend on `raw` alone, where it begins `offset` bytes after a multiple of three."""
    digits = base64.b64encode(b"\0" * offset + raw)
    return digits[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6]
