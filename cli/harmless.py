"""Text from outside, made safe to show: it must not move the cursor, colour the screen or reorder a line."""

from __future__ import annotations

from flows.shell.output import ANSI

_SHOWN = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"}
_SHOWN |= {0x7F: "\N{SYMBOL FOR DELETE}"}
_SHOWN |= dict.fromkeys(
    [*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C],
    "\N{REPLACEMENT CHARACTER}",  # C1 controls and what changes the direction of writing
)
_SHOWN |= dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")


def harmless(text: str) -> str:
    """The text with every control character but tab and newline replaced by a sign for it."""
    return text.translate(_SHOWN)


def harmless_line(text: str, *, width: int = 200) -> str:
    """The text on one line of at most `width` characters."""
    line = harmless(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"


def harmless_output(text: str) -> str:
    """A program's output: without its colours and cursor movements, a bare carriage return as a new line."""
    return harmless(ANSI.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))
