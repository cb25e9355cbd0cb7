"""Text from outside in what people read: a name cannot move the cursor, hide, or pass for a line of ours."""

from __future__ import annotations

import unicodedata

QUOTE = "| "
"""What stands before each line of a message but the first, whoever wrote it."""


def shown(text: str) -> str:
    r"""The text on one line: controls, line breaks and what hides or turns text as `\n`, `\x1b`, `\u202e`."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def shown_lines(text: str) -> str:
    """A message of several lines, each as `shown` gives it, those after the first marked by `QUOTE`."""
    first, *others = text.split("\n")
    marked = [line if line.startswith(QUOTE) else QUOTE + line for line in others if line.strip()]
    return "\n".join(shown(line) for line in [first, *marked])


def _escaped(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":  # blanks of other widths
        return character
    return character.encode("unicode_escape").decode()
