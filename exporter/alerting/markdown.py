"""Values in Markdown that somebody else chose. In a code span Mattermost sees no mention, no link and no emphasis."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 100


def quoted(value: object, *, longest: int = LONGEST) -> str:
    """The value in a code span that it cannot leave, on one line, with at most `longest` characters of it."""
    line = "".join(_plain(character) for character in str(value)[: longest * 4])
    line = " ".join(line.split())
    if len(line) > longest:
        line = line[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    if not line:
        return "`-`"
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if "`" in line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _plain(character: str) -> str:
    # controls, what reorders or hides text, surrogates, line and paragraph separators
    category = unicodedata.category(character)
    if category in ("Zl", "Zp") or character in "\t\n\r\v\f\x85":
        return " "
    return "\N{REPLACEMENT CHARACTER}" if category in ("Cc", "Cf", "Cs", "Co", "Cn") else character
