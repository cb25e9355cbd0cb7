"""Secrets in a step's output: how programs may spell them, and the mask that takes their place."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

from opsdb.errors import UsageError

MASK = b"***"
SHORTEST_SECRET = 6  # characters: masking a shorter one would tear harmless text apart and give it away by its gaps


class SecretPatterns:
    """The spellings of a step's secrets, built once for all its streams."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """Raises UsageError, which names the secret and never its value, for one that cannot be masked."""
        spellings: set[bytes] = set()
        for name, value in secrets.items():
            if len(value.strip()) < SHORTEST_SECRET:
                raise UsageError(
                    f"secret {name} has fewer than {SHORTEST_SECRET} characters: too short to be masked in output"
                )
            try:
                spellings |= _spellings(value)
            except UnicodeEncodeError:
                raise UsageError(f"secret {name} cannot be written as UTF-8") from None  # it would quote the value
        self.spellings = sorted(spellings)
        # Where none of these is, there is no other spelling either: a search for each is what a big output costs.
        self._shortest = [one for one in self.spellings if not any(two in one for two in spellings - {one})]

    def found_in(self, data: bytes) -> bool:
        """Whether any spelling is there."""
        return any(one in data for one in self._shortest)

    def mask(self, text: str) -> str:
        """A whole text, apart from any stream."""
        data = text.encode()
        if not self.found_in(data):
            return text
        masker = SecretMasker(self)
        return (masker.feed(data) + masker.close()).decode()


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
        return self._advance(buffer, self._first_undecided(buffer))

    def close(self) -> bytes:
        """The rest, when the stream is over."""
        return self._advance(self._held, len(self._held))

    def _advance(self, buffer: bytes, safe: int) -> bytes:
        covered = self._covered
        parts: list[bytes] = []
        for start, end in self._matches(buffer, safe):
            if start >= covered:
                parts += [buffer[covered:start], MASK]
            covered = max(covered, end)
        parts.append(buffer[covered:safe])
        self._held, self._covered = buffer[safe:], max(0, covered - safe)
        return b"".join(parts)

    def _matches(self, buffer: bytes, safe: int) -> list[tuple[int, int]]:
        """Where spellings begin before `safe` and where they end, in order; they may overlap."""
        matches: list[tuple[int, int]] = []
        if self._patterns.found_in(buffer):
            for spelling in self._patterns.spellings:
                at = buffer.find(spelling)
                while -1 < at < safe:
                    matches.append((at, at + len(spelling)))
                    at = buffer.find(spelling, at + 1)
        return sorted(matches)

    def _first_undecided(self, buffer: bytes) -> int:
        """The first position from which the rest of the buffer is the beginning of a spelling, but not all of it."""
        first = len(buffer)
        for spelling in self._patterns.spellings:
            at = buffer.find(spelling[:1], max(0, len(buffer) - len(spelling) + 1))
            while -1 < at < first:
                if spelling.startswith(buffer[at:]):
                    first = at
                at = buffer.find(spelling[:1], at + 1)
        return first


def _spellings(secret: str) -> set[bytes]:
    """A secret as programs print it: as it is, by line, in base64, in a URL, in JSON, quoted by a shell."""
    texts = {secret, secret.strip(), secret.replace("\n", "\r\n")}
    spellings = {line.strip().encode() for line in secret.splitlines() if len(line.strip()) >= SHORTEST_SECRET}
    for text in texts:
        urls = {quote(text, safe=""), quote(text), quote_plus(text)}
        urls |= {re.sub("%..", lambda escape: escape[0].lower(), url) for url in urls}
        quoted = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], text.replace("'", "'\\''")}
        spellings |= {one.encode() for one in {text} | urls | quoted}
        raw = text.encode()
        whole = base64.b64encode(raw)
        encoded = {whole} | {_base64_within(raw, offset) for offset in range(3)}
        for width in (64, 76):  # openssl and base64 break their lines
            encoded |= {line for at in range(0, len(whole), width) if len(line := whole[at : at + width]) > 7}
        spellings |= encoded | {one.translate(bytes.maketrans(b"+/", b"-_")) for one in encoded}
    return spellings


def _base64_within(raw: bytes, offset: int) -> bytes:
    """The base64 digits that depend on `raw` alone, where it begins `offset` bytes after a multiple of three."""
    digits = base64.b64encode(b"\0" * offset + raw)
    return digits[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6]
