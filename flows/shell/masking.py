"""Secrets in a step's output, and the mask that takes their place."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from flows.shell.escapes import Reading, erasable, readings, unfinished, visible
from flows.shell.spellings import spellings
from opsdb.errors import UsageError

MASK = b"***"
SHORTEST_SECRET = 6  # characters: masking a shorter one would tear harmless text apart and give it away by its gaps
_COLOURS = re.compile(rb"\x1b\[[0-9;:]*m")


class SecretPatterns:
    """The spellings of a step's secrets, built once for all its streams."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """Raises UsageError, which names the secret and never its value, for one that cannot be masked."""
        found: set[bytes] = set()
        for name, value in secrets.items():
            try:
                if len(visible(value.strip().encode()).decode()) < SHORTEST_SECRET:
                    raise UsageError(
                        f"secret {name} has fewer than {SHORTEST_SECRET} characters: too short to be masked in output"
                    )
                found |= {visible(one) for one in spellings(value, shortest_line=SHORTEST_SECRET)}
            except UnicodeEncodeError:
                raise UsageError(f"secret {name} cannot be written as UTF-8") from None  # it would quote the value
        self.spellings = sorted(one for one in found if len(one) >= SHORTEST_SECRET)
        alike = [list(group) for _, group in groupby(self.spellings, lambda one: one[:SHORTEST_SECRET])]
        self._by_beginning = {_common_beginning(group): group for group in alike}  # fewer texts to look for
        self._first_bytes = _first_bytes(self.spellings)
        self._longest = max([0, *map(len, self.spellings)])
        self._reach = 64 * self._longest + 4096  # bytes, with what is hidden: room for colours at each letter

    def places(self, ways: Sequence[Reading]) -> list[tuple[int, int]]:
        """Where spellings begin and end in the data that is read in these ways, in order; they may overlap."""
        found = set()
        for reading in ways:
            for beginning, alike in self._by_beginning.items():
                for at in _places(reading.text, beginning):
                    longest = max((len(one) for one in alike if reading.text.startswith(one, at)), default=0)
                    begin, end = reading.place(at), reading.place(at + longest - 1) + 1
                    if longest and end - begin <= self._reach:
                        found.add((begin, end))
        return sorted(found)

    def first_undecided(self, ways: Sequence[Reading], size: int, *, erased: int) -> int:
        """The first position in the `size` bytes from which a reading's rest begins a spelling and continues it.

        It may do so without the last `erased` bytes.
        """
        return min([size, *(self._begun(reading, size, erased) for reading in ways)])

    def mask(self, text: str) -> str:
        """A whole text, apart from any stream."""
        masker = SecretMasker(self)
        return (masker.feed(text.encode()) + masker.close()).decode()

    def _begun(self, reading: Reading, size: int, erased: int) -> int:
        before = max(0, len(reading.text) - self._longest - erased)
        for found in self._first_bytes.finditer(reading.text, before):
            rest = reading.text[found.start() :]
            if self._goes_on(rest) or (erased and self._goes_on(rest[:-erased])):
                begin = reading.place(found.start())
                if size - begin <= self._reach:
                    return begin
        return size

    def _goes_on(self, rest: bytes) -> bool:
        """Whether a spelling begins with the rest and is longer."""
        following = bisect_right(self.spellings, rest)
        return bool(rest) and following < len(self.spellings) and self.spellings[following].startswith(rest)


class SecretMasker:
    """Replaces secrets in a stream of bytes by `***`, also where a read or an escape sequence cuts them in two.

    Every stretch that is covered by secrets becomes one mask, with the changes of colour that were in it. Only bytes
    that may be the beginning of a secret are held back, and the output depends on the stream alone, not on how it was
    split.
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
        cut = unfinished(buffer)
        whole = buffer[: len(buffer) - cut]
        ways = readings(whole)
        safe = self._patterns.first_undecided(ways, len(whole), erased=0 if cut else erasable(whole))
        return self._advance(buffer, ways, safe)

    def close(self) -> bytes:
        """The rest, when the stream is over."""
        return self._advance(self._held, readings(self._held), len(self._held))

    def _advance(self, buffer: bytes, ways: Sequence[Reading], safe: int) -> bytes:
        covered = self._covered
        parts: list[bytes] = []
        for start, end in self._patterns.places(ways):
            if start >= safe:
                break
            if start >= covered:
                parts += [buffer[covered:start], MASK]
            parts += _COLOURS.findall(buffer, max(start, covered), end)
            covered = max(covered, end)
        parts.append(buffer[covered:safe])
        self._held, self._covered = buffer[safe:], max(0, covered - safe)
        return b"".join(parts)


def _common_beginning(sorted_ones: Sequence[bytes]) -> bytes:
    first, last = sorted_ones[0], sorted_ones[-1]
    return first[: next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def _first_bytes(spellings: Sequence[bytes]) -> re.Pattern[bytes]:
    """What finds where one of these may begin: the first two bytes, or the first where little comes after it."""
    second: dict[bytes, set[bytes]] = {}
    for one in spellings:
        second.setdefault(one[:1], set()).add(re.escape(one[1:2]))
    begun = [re.escape(first) + b"(?=%b|.{0,4}\\Z)" % b"|".join(sorted(after)) for first, after in second.items()]
    return re.compile(b"|".join(begun), re.DOTALL)


def _places(data: bytes, beginning: bytes) -> Iterator[int]:
    """Where it stands, in order, also where it overlaps itself."""
    at = data.find(beginning)
    while at > -1:
        yield at
        at = data.find(beginning, at + 1)
