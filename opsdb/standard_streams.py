"""Standard output and error that no work depends on: a reader that left or a full disk ends nothing half done."""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_DESCRIPTORS = {"stdout": 1, "stderr": 2}


class _Unfailing(io.FileIO):
    """A descriptor whose writes never raise. What could not be written is dropped; `error` is the first reason."""

    error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = self.error or error
            if error.errno != errno.EPIPE:  # a disk may have room again
                return memoryview(data).nbytes
            with io.FileIO(os.devnull, "w") as nothing:  # for the processes that inherit it as well
                os.dup2(nothing.fileno(), self.fileno())
            return memoryview(data).nbytes


_streams: dict[str, _Unfailing] = {}


def make_unfailing() -> None:
    """Let writes to stdout and stderr of this process fail silently. Call it first in a program's `main`.

    A descriptor that the caller closed (`>&-`) becomes /dev/null: else the next file that is opened would be it.
    Streams that somebody replaced, as pytest does, stay.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)
    for name, descriptor in _DESCRIPTORS.items():
        before = getattr(sys, name)
        if before is not getattr(sys, f"__{name}__") or name in _streams:
            continue
        raw = _streams[name] = _Unfailing(descriptor, "w", closefd=False)
        # a pipe alone is worth whole blocks; a file is a log that somebody may be reading
        as_before = before is not None and (before.line_buffering or before.write_through)
        at_once = as_before or name == "stderr" or not stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        text = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=before.encoding if before else "utf-8",
            errors=before.errors if before else "backslashreplace",
            line_buffering=at_once,
        )
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)


def lost_output() -> str | None:
    """Why output could not be written to stdout, or None. A reader that left wanted no more of it: None as well."""
    raw = _streams.get("stdout")
    if raw is None:
        return None
    sys.stdout.flush()
    return None if raw.error is None or raw.error.errno == errno.EPIPE else os.strerror(raw.error.errno or 0)


def reader_left() -> bool:
    """Whether nobody reads stdout any more, without writing to it: for commands that would run on for a reader
    alone."""
    raw = _streams.get("stdout")
    if raw is None:
        return False
    if raw.error is not None:
        return True
    look = select.poll()
    look.register(raw.fileno(), 0)
    return any(event & select.POLLERR for _, event in look.poll(0))
