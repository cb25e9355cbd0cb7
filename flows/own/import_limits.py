"""Limits around the import of a file that others wrote: its time, its output, and signals that it must not swallow."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from types import CodeType, FrameType
from typing import Any

AGAIN_SECONDS = 0.01
"""How soon a file that continues is ended again."""


class TooLongError(BaseException):
    """No `except Exception` of the file ends it."""


def _in_main_thread() -> bool:
    """Where alone signals arrive, and where what is printed may be turned aside without that of other threads."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def at_most(seconds: float, root: CodeType) -> Iterator[None]:
    """Limit the time of the block, and send what it prints to stderr: stdout is the command's.

    `root` is the code of the function in the block that imports: nothing above it is ended. Raises TooLongError.
    """
    if not _in_main_thread():
        yield
        return

    def end(_number: int, frame: FrameType | None) -> None:
        if frames := _of_import(frame, root):  # else it is over
            for one in frames:
                one.f_trace = end_next_line
            sys.settrace(end_next_line)
            raise TooLongError

    def end_next_line(frame: FrameType, event: str, _arg: Any) -> Any:
        """An `except:` around what waits catches the first error, and this one comes from within it."""
        if event == "line" and _of_import(frame, root):
            raise TooLongError
        return end_next_line

    tracer = sys.gettrace()
    handler = signal.signal(signal.SIGALRM, end)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
        sys.settrace(tracer)


def _of_import(frame: FrameType | None, root: CodeType) -> list[FrameType]:
    """The frame and those below it, down to the import; none when the frame is Python's importing or not of it."""
    found: list[FrameType] = []
    while frame is not None and frame.f_code is not root:
        found.append(frame)
        frame = frame.f_back
    frozen = [one.f_code.co_filename.startswith("<frozen") for one in found]
    if frame is None or not found or frozen[0]:
        return []
    return [one for one, skip in zip(found, frozen, strict=True) if not skip]


class SignalledError(Exception):
    """What the handler of a real signal raised, which is not the file's."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


@contextmanager
def signals_of_others() -> Iterator[None]:
    """Ctrl-C ends the command, whatever the file makes of it; KeyboardInterrupt of the file itself does not.

    Raises SignalledError once the file is done with a signal whose handler raised.
    """
    raised: list[BaseException] = []

    def noting(handler: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], None]:
        def note(number: int, frame: FrameType | None) -> None:
            try:
                handler(number, frame)
            except BaseException as error:
                raised.append(error)
                signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS, AGAIN_SECONDS)  # if the file swallows it
                raise

        return note

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if _in_main_thread()}
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, noting(handler))
    try:
        yield
    finally:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)
        if raised:
            raise SignalledError(raised[0])
