"""What a terminal does not show: escape sequences, controls, and characters without a picture."""

from __future__ import annotations

import re
from bisect import bisect_right

_MOST_BYTES = 4096  # of a sequence that carries a string; what is longer is text
_MIDDLE = "[ -/]{0,16}"
_PARAMETERS = f"[0-?]{{0,256}}{_MIDDLE}"
_STRING = rf"[^\x07\x1b\n]{{0,{_MOST_BYTES}}}?"

# A character has up to four bytes: what is a sequence in text was one in bytes.
ANSI = re.compile(
    rf"(?:\x1b\[|\x9b){_PARAMETERS}[@-~]"  # colours, cursor
    rf"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\n]{{0,{_MOST_BYTES // 4}}}?(?:\x07|\x1b\\|\x9c)"  # titles, links
    rf"|\x1b{_MIDDLE}[0-~]"
)
"""The escape sequences of terminals, in text."""

# Python skips fast what cannot begin a match when the pattern begins with a set; so what the first byte was is looked
# at behind it. A C1 control has two bytes in UTF-8, and one where it is not UTF-8: no byte of a letter goes before.
_FIRST = r"[\x00-\x08\x0a-\x1f\x7f\x90\x98\x9b\x9d-\x9f\xc2\xcd\xd8\xe1\xe2\xef\xf3]"
_CSI = rf"(?:(?<=\x1b)\[|(?<=\xc2)\x9b|(?<=[\x00-\x7f]\x9b)){_PARAMETERS}"
_OSC = rf"(?:(?<=\x1b)[\]PX^_]|(?<=\xc2)[\x90\x98\x9d-\x9f]|(?<=[\x00-\x7f][\x90\x98\x9d-\x9f])){_STRING}"
_SEQUENCES = rf"{_CSI}[@-~]|{_OSC}(?:\x07|\x1b\\|\xc2?\x9c)|(?<=\x1b){_MIDDLE}[0-~]"
_SINGLE = "|".join(
    [
        r"(?<=[\x00-\x08\x0a-\x1f\x7f])\x00*",  # controls, newlines among them; NULs come by the gigabyte
        r"(?<=\xc2)[\x80-\x9f\xad]",  # C1 controls, and the soft hyphen
        r"(?<=\xcd)\x8f|(?<=\xd8)\x9c|(?<=\xe1)\xa0[\x8b-\x8f]|(?<=\xe2)(?:\x80[\x8b-\x8f\xa8-\xae]|\x81[\xa0-\xaf])",
        r"(?<=\xef)(?:\xb8[\x80-\x8f]|\xbb\xbf)|(?<=\xf3)\xa0[\x80-\xbf]{2}",  # joiners, directions, variants, tags
    ]
)
_LETTER = r"[^\x00-\x1f\x7f-\xbf][\x80-\xbf]{0,3}"


def _compiled(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode("latin-1"))


_NEWLINE = re.compile(b"\n")
_SINGLES = _compiled(f"{_FIRST}(?:{_SINGLE})")
_ALL = _compiled(f"{_FIRST}(?:{_SEQUENCES}|{_SINGLE})")
_WRITTEN_OVER = _compiled(rf"{_FIRST}(?:{_SEQUENCES})|{_LETTER}\x08|{_FIRST}(?:{_SINGLE})")
_LAST_LETTER = _compiled(rf"{_LETTER}\Z")
_UNFINISHED = _compiled(
    rf"{_FIRST}(?:{_CSI}|{_OSC}[\x1b\xc2]?|(?<=\x1b){_MIDDLE}"
    r"|(?<=[\xc2\xcd\xd8])|(?<=\xe1)\xa0?|(?<=\xe2)[\x80\x81]?|(?<=\xef)[\xb8\xbb]?|(?<=\xf3)(?:\xa0[\x80-\xbf]?)?)\Z"
)
_PLAIN = bytes(byte for byte in range(256) if not re.match(_FIRST.encode("latin-1"), bytes([byte])) or byte == 0x0A)


class Reading:
    """Data as it reads in one line without what is hidden in it."""

    def __init__(self, data: bytes, hidden: re.Pattern[bytes]) -> None:
        self.text = data.replace(b"\n", b"") if hidden is _NEWLINE else hidden.sub(b"", data)
        self._data = data
        self._hidden = hidden
        self._gaps: tuple[list[int], list[int]] | None = None

    def place(self, at: int) -> int:
        """Where in the data that byte of the text stands."""
        if self._gaps is None:  # most readings are never asked
            places, sizes = [], [0]
            for gap in self._hidden.finditer(self._data):
                places.append(gap.start() - sizes[-1])
                sizes.append(sizes[-1] + len(gap[0]))
            self._gaps = places, sizes
        places, sizes = self._gaps
        return at + sizes[bisect_right(places, at)]


def visible(data: bytes) -> bytes:
    """The data without controls, newlines and what has no picture."""
    return _SINGLES.sub(b"", data)


def readings(data: bytes) -> list[Reading]:
    """The ways to read the data: with what an escape sequence carries or without it, written over or not."""
    if _is_plain(data):
        return [Reading(data, _NEWLINE)]
    found = [Reading(data, _SINGLES)]
    every = Reading(data, _ALL)
    if every.text != found[0].text:
        found.append(every)
    if b"\b" in data:
        found.append(Reading(data, _WRITTEN_OVER))
    return found


def unfinished(data: bytes) -> int:
    """How many bytes at the end begin an escape sequence, or a character that is hidden, and do not end it."""
    end = data[-_MOST_BYTES - 4 :]
    found = None if _is_plain(end) else _UNFINISHED.search(end)
    return len(end) - found.start() if found else 0


def erasable(data: bytes) -> int:
    """How many bytes the character at the end has that a backspace would erase."""
    found = None if data.endswith(b"\n") else _LAST_LETTER.search(data, max(0, len(data) - 4))
    return len(found[0]) if found else 0


def _is_plain(data: bytes) -> bool:
    """Whether nothing but newlines can be hidden in it."""
    return not data.translate(None, _PLAIN)
