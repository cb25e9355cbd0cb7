"""What happens to a step's bytes: secrets masked, the log file bounded, lines made printable."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from flows.shell.escapes import ANSI
from flows.shell.masking import SecretMasker, SecretPatterns

Stream = Literal["stdout", "stderr"]
STREAMS: tuple[Stream, ...] = get_args(Stream)

_LINE_BREAKS = re.compile("[\u2028\u2029]")  # str.splitlines takes them for newlines
# Besides the controls: what turns the direction of the text around it, so that a line reads as another one.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """How much of a step's output is kept, in bytes and lines; what is cut says so."""

    log_bytes: int = 64 * 1024 * 1024  # the log file: its head, and at its end
    log_tail_bytes: int = 256 * 1024  # the last bytes, beyond log_bytes
    tail_bytes: int = 64 * 1024  # of each stream, in the result
    lines: int = 500  # passed on while the step runs, both streams together
    last_lines: int = 49  # of each stream, the part of `lines` that is saved for the end
    lines_bytes: int = 256 * 1024  # of the lines passed on, before the last ones
    line_bytes: int = 4096


def printable(data: bytes, *, line_bytes: int = 4096) -> str:
    """Text for people and databases: no control characters but newline and tab, no escapes, no lone surrogates.

    Invalid UTF-8 becomes U+FFFD. Of a line that was rewritten with CR its last state stays. A line over `line_bytes`
    is cut and marked so.
    """
    lines = []
    for line in data.split(b"\n"):
        state = next((state for state in reversed(line.split(b"\r")) if state), b"")
        lines.append(_printable_line(state[:line_bytes], size=len(state)))
    return "\n".join(lines)


def _printable_line(kept: bytes, *, size: int) -> str:
    """One line without CR, of which `size` bytes were there and `kept` are left."""
    cut = size > len(kept)
    text = kept.decode("utf-8", errors="replace")
    if cut:  # perhaps in the middle of a character
        text = text.rstrip("\ufffd")
    text = _UNPRINTABLE.sub("", ANSI.sub("", _LINE_BREAKS.sub(" ", text)))
    return f"{text} [line cut, {size:,} bytes]" if cut else text


class Tail:
    """The last bytes of a stream, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.total = 0
        self._limit = limit
        self._bytes = bytearray()

    def add(self, data: bytes) -> None:
        self.total += len(data)
        self._bytes += data[-self._limit :]
        if len(self._bytes) > 2 * self._limit:  # not each time: moving them costs
            del self._bytes[: -self._limit]

    @property
    def kept(self) -> bytes:
        return bytes(self._bytes[-self._limit :])


class LogFile:
    """A file of bounded size, 0600: the head as it comes, then at close a marker line and the last bytes.

    An error of the disk is kept in `error` and not raised: the command's own outcome matters more than its log.
    """

    def __init__(self, path: Path, *, head_bytes: int, tail_bytes: int) -> None:
        """Replaces what is at `path`; folders that are missing are made with 0700."""
        self.path = path
        self.written = 0
        self.cut = False
        self.error: str | None = None
        self._room = head_bytes
        self._tail = Tail(tail_bytes)
        self._handle: int | None = None
        with self._noting_errors():
            for folder in reversed([path.parent, *path.parent.parents]):
                if not folder.exists():
                    folder.mkdir(mode=0o700, exist_ok=True)
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            if stat.S_ISREG(os.fstat(self._handle).st_mode):
                os.fchmod(self._handle, 0o600)  # it may have been there before

    def write(self, data: bytes) -> None:
        """Append, or keep for the end what is beyond the head."""
        head = data[: self._room]
        self._room -= len(head)
        self._put(head)
        if len(head) < len(data):
            self._tail.add(data[len(head) :])

    def close(self) -> None:
        """Append the marker and the tail, and close."""
        if self._handle is None:
            return
        kept = self._tail.kept
        if cut := self._tail.total - len(kept):
            self.cut = True
            self._put(f"\n[{cut:,} bytes cut here]\n".encode())
        self._put(kept)
        handle, self._handle = self._handle, None
        with self._noting_errors():
            os.close(handle)

    def _put(self, data: bytes) -> None:
        with self._noting_errors():
            while data and self._handle is not None and self.error is None:
                count = os.write(self._handle, data)
                self.written += count
                data = data[count:]

    @contextlib.contextmanager
    def _noting_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or f"the log {self.path} is incomplete: {error.strerror or error}"


class _Lines:
    """The lines of one stream: delivered as they come while there is room, and the last ones at the end."""

    def __init__(
        self, deliver: Callable[[str], None], *, reserve_room: Callable[[int], bool], limits: OutputLimits
    ) -> None:
        self._deliver = deliver
        self._reserve_room = reserve_room  # for a line of that many characters, if there is any left
        self._limits = limits
        self._state = self._earlier = b""  # what the line shows now, and what it showed before the last CR
        self._size = self._earlier_size = 0
        self._begin = 0  # of the line, from the beginning of the stream
        self._passed = 0
        self._unseen: int | None = None  # lines that ended since there was no room any more

    def add(self, data: bytes) -> None:
        at = 0
        while self._unseen is None and (end := data.find(b"\n", at)) >= 0:
            self._extend(data[at:end])
            if self._finish_line():
                at = end + 1
                self._begin = self._passed + at
        if self._unseen is None:
            self._extend(data[at:])
        else:
            self._unseen += data.count(b"\n", at)
        self._passed += len(data)

    def close(self, tail: Tail, rest: str) -> None:
        """Deliver a last line without newline and, where lines were cut, the last ones that `tail` still holds."""
        if self._unseen is None and self._passed > self._begin:
            self._finish_line()
        if self._unseen is None:
            return
        kept = tail.kept[max(0, self._begin - tail.total + len(tail.kept)) :]
        lines = kept.removesuffix(b"\n").split(b"\n")
        unseen = self._unseen + (not kept.endswith(b"\n"))
        lines = lines[-min(self._limits.last_lines, unseen) :]
        if unseen > len(lines):
            self._deliver(f"[{unseen - len(lines):,} lines cut here; {rest}]")
        for line in lines:
            self._deliver(printable(line, line_bytes=self._limits.line_bytes))

    def _extend(self, piece: bytes) -> None:
        shown = piece.rstrip(b"\r")
        _, rewritten, last = shown.rpartition(b"\r")
        if rewritten:
            self._state, self._size = b"", 0
        self._state += last[: self._limits.line_bytes - len(self._state)]
        self._size += len(last)
        if len(shown) < len(piece) and self._size:
            self._earlier, self._earlier_size = self._state, self._size
            self._state, self._size = b"", 0

    def _finish_line(self) -> bool:
        kept, size = (self._state, self._size) if self._size else (self._earlier, self._earlier_size)
        text = _printable_line(kept, size=size)
        if not self._reserve_room(len(text)):
            self._unseen = 0
            return False
        self._state = self._earlier = b""
        self._size = self._earlier_size = 0
        self._deliver(text)
        return True


class StepStreams:
    """Both streams of a step: masked, then into one log file, a tail each, and the lines passed on."""

    def __init__(
        self,
        *,
        secrets: SecretPatterns,
        log_path: Path,
        on_line: Callable[[str], None],
        limits: OutputLimits,
        rest: str = "",
    ) -> None:
        self._rest = rest or f"see {log_path}"
        self.log = LogFile(log_path, head_bytes=limits.log_bytes, tail_bytes=limits.log_tail_bytes)
        self._on_line = on_line
        self._line_bytes = limits.line_bytes
        self._lines_left = limits.lines - len(STREAMS) * (limits.last_lines + 1)
        self._bytes_left = limits.lines_bytes
        self._maskers = {stream: SecretMasker(secrets) for stream in STREAMS}
        self._tails = {stream: Tail(limits.tail_bytes) for stream in STREAMS}
        self._lines = {
            stream: _Lines(self._deliver, reserve_room=self._reserve_room, limits=limits) for stream in STREAMS
        }

    def feed(self, stream: Stream, data: bytes) -> None:
        """Take what was read from one of the streams. Raises what `on_line` raises."""
        self._pass_on(stream, self._maskers[stream].feed(data))

    def close(self) -> None:
        """Pass on what was held back, the last lines, and the end of the log."""
        try:
            for stream in STREAMS:
                self._pass_on(stream, self._maskers[stream].close())
            for stream in STREAMS:
                self._lines[stream].close(self._tails[stream], self._rest)
        finally:
            self.log.close()

    def abandon(self) -> None:
        """End the log without another call of `on_line`: for a step that ends with an exception."""
        self.mute()
        self.close()

    def mute(self) -> None:
        """Call `on_line` no more; the log continues."""
        self._on_line = _ignore

    def tail(self, stream: Stream) -> str:
        """The last bytes of a stream as printable text."""
        return printable(self._tails[stream].kept, line_bytes=self._line_bytes)

    def _pass_on(self, stream: Stream, masked: bytes) -> None:
        if masked:
            self.log.write(masked)
            self._tails[stream].add(masked)
            self._lines[stream].add(masked)

    def _deliver(self, line: str) -> None:
        self._on_line(line)

    def _reserve_room(self, size: int) -> bool:
        if self._lines_left <= 0 or self._bytes_left < size:
            self._lines_left = 0  # no shorter line slips through the gap: what is passed on is the head
            return False
        self._lines_left -= 1
        self._bytes_left -= size
        return True


def _ignore(_line: str) -> None:
    """The end of `on_line`."""
