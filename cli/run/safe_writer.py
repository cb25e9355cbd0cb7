"""How the output of steps reaches stdout: bytes as they are into a pipe, made safe on a terminal."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable

from cli.text import safe_output


def writer(*, raw: bool) -> Callable[[bytes], None]:
    """A function that writes chunks of a file; b"" ends the file. `raw` bytes stay as they are in a pipe."""
    if raw and not sys.stdout.isatty():

        def write_raw(chunk: bytes) -> None:
            sys.stdout.flush()
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()

        return write_raw
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    held = ""
    at_line_start = True

    def write_safely(chunk: bytes) -> None:
        nonlocal held, at_line_start
        text = held + decoder.decode(chunk, final=not chunk)
        held = ""
        if chunk:  # a line feed may follow a carriage return, and an escape sequence may continue, in the next chunk
            cut = max(text.rfind("\n"), text.rfind(" ")) + 1
            if len(text) - cut < 200:
                text, held = text[:cut], text[cut:]
        elif not at_line_start and not text.endswith("\n"):
            text += "\n"
        if text:
            sys.stdout.write(safe_output(text))
            at_line_start = text.endswith("\n")
        sys.stdout.flush()

    return write_safely
