"""Secrets in a step's output: how programs may spell them, and the mask that takes their place."""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from functools import cached_property
from urllib.parse import quote, quote_plus

from opsdb.errors import UsageError

MASK = b"***"
SHORTEST_SECRET = 6  # characters: masking a shorter one would tear harmless text apart and give it away by its gaps
_BREAKS_SHARE = 4  # bytes of line breaks that a digit of base64 may have behind it, on average


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
        self.digits = sorted(digits)
        """Those of the spellings that are base64, in which a line may break anywhere."""
        # Where none of these is, there is no other spelling either: a search for each is what a big output costs.
        self._shortest = _shortest(self.spellings)
        self._shortest_digits = _shortest(self.digits)

    def found_in(self, data: bytes) -> bool:
        """Whether any spelling is there."""
        return any(one in data for one in self._shortest) or self.found_unwrapped(_Unwrapped(data))

    def found_unwrapped(self, text: _Unwrapped) -> bool:
        """Whether any base64 is there once its lines are joined."""
        return text.breaks and any(one in text.data for one in self._shortest_digits)

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
                for at in _places(buffer, spelling):
                    if at >= safe:
                        break
                    matches.append((at, at + len(spelling)))
            text = _Unwrapped(buffer)
            if self._patterns.found_unwrapped(text):
                for digits in self._patterns.digits:
                    spans = (
                        (text.place(at), text.place(at + len(digits) - 1) + 1) for at in _places(text.data, digits)
                    )
                    matches += [span for span in spans if span[0] < safe and span[1] - span[0] <= _longest(digits)]
        return sorted(matches)

    def _first_undecided(self, buffer: bytes) -> int:
        """The first position from which the rest of the buffer is the beginning of a spelling, but not all of it."""
        first = len(buffer)
        for spelling in self._patterns.spellings:
            first = min(first, next(_beginning_at_end(buffer, spelling), first))
        digits = self._patterns.digits
        # one byte more than can matter: the backslash before a letter says whether that is a break or a digit
        start = max(0, len(buffer) - max(map(_longest, digits)) - 1)
        text = _Unwrapped(buffer[start:].removesuffix(b"\\"))  # which may begin a break
        for one in digits:
            for at in _beginning_at_end(text.data, one):
                place = start + text.place(at)
                if len(buffer) - place < _longest(one):
                    first = min(first, place)
                    break
        return first - 1 if buffer[first - 1 : first] == b"\\" else first


class _Unwrapped:
    """Bytes without their line breaks, also those that JSON spells `\\n` and `\\r`; knows where each byte stood."""

    def __init__(self, data: bytes) -> None:
        self._lined = data
        if b"\\" in data:  # which is quick to see
            self._lined = data.replace(b"\\n", b"\n\n").replace(b"\\r", b"\r\r")  # no byte moves
        self.data = self._lined.replace(b"\n", b"").replace(b"\r", b"")
        self.breaks = len(self.data) < len(data)

    def place(self, index: int) -> int:
        """Where the byte at this index of `data` stood."""
        starts, gone = self._gaps
        return index + gone[bisect_right(starts, index)]

    @cached_property
    def _gaps(self) -> tuple[list[int], list[int]]:
        """The indexes before which breaks stood, and how many bytes of breaks lie before each of these, and in all."""
        starts, gone = [], [0]
        for gap in re.finditer(rb"[\r\n]+", self._lined):
            starts.append(gap.start() - gone[-1])
            gone.append(gone[-1] + len(gap[0]))
        return starts, gone


def _places(data: bytes, spelling: bytes) -> Iterator[int]:
    """Where a spelling stands, in order, also where it overlaps itself."""
    at = data.find(spelling)
    while at > -1:
        yield at
        at = data.find(spelling, at + 1)


def _beginning_at_end(data: bytes, spelling: bytes) -> Iterator[int]:
    """The positions, in order, from which the rest of the data is the beginning of a spelling, but not all of it."""
    at = data.find(spelling[:1], max(0, len(data) - len(spelling) + 1))
    while at > -1:
        if spelling.startswith(data[at:]):
            yield at
        at = data.find(spelling[:1], at + 1)


def _longest(digits: bytes) -> int:
    """The bytes over which these digits may be spread, so that what is held back has an end."""
    return len(digits) * (1 + _BREAKS_SHARE)


def _shortest(spellings: list[bytes]) -> list[bytes]:
    """Those that hold none of the others."""
    return [one for one in spellings if not any(two in one for two in spellings if two != one)]


def _spellings(secret: str) -> set[bytes]:
    """A secret as programs print it: as it is, by line, in base64, in a URL, in JSON, quoted by a shell."""
    spellings = {line.strip().encode() for line in secret.splitlines() if len(line.strip()) >= SHORTEST_SECRET}
    for text in _texts(secret):
        urls = {quote(text, safe=""), quote(text), quote_plus(text)}
        urls |= {re.sub("%..", lambda escape: escape[0].lower(), url) for url in urls}
        quoted = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], text.replace("'", "'\\''")}
        spellings |= {one.encode() for one in {text} | urls | quoted}
        whole = base64.b64encode(text.encode())
        for width in (64, 76):  # openssl and base64 break their lines, of which one may be shown alone
            lines = {line for at in range(0, len(whole), width) if len(line := whole[at : at + width]) > 7}
            spellings |= lines | {_for_urls(line) for line in lines}
    return spellings


def _digits(secret: str) -> set[bytes]:
    """A secret in base64, alone and within something longer."""
    digits: set[bytes] = set()
    for text in _texts(secret):
        raw = text.encode()
        digits |= {base64.b64encode(raw)} | {_base64_within(raw, offset) for offset in range(3)}
    return digits | {_for_urls(one) for one in digits}


def _texts(secret: str) -> set[str]:
    return {secret, secret.strip(), secret.replace("\n", "\r\n")}


def _for_urls(digits: bytes) -> bytes:
    return digits.translate(bytes.maketrans(b"+/", b"-_"))


def _base64_within(raw: bytes, offset: int) -> bytes:
    """The base64 digits that depend on `raw` alone, where it begins `offset` bytes after a multiple of three."""
    digits = base64.b64encode(b"\0" * offset + raw)
    return digits[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6]
