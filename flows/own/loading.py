"""A file of runbooks is imported: what it does wrong is said in one line, and stops no other file."""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from prefect import Flow
from pydantic import SecretStr

import flows.engine.approval
import flows.engine.runbook
import flows.engine.step  # noqa: F401  # what runbooks import is here before their time begins
from flows.own import files
from flows.shell.masking import MASK, SecretPatterns
from opsdb.errors import UsageError
from opsdb.kinds.runbook_files import FOLDER, RunbookFile, RunbookFileError
from opsdb.settings import Settings

IMPORT_SECONDS = 20.0
"""How long a file may take to be imported: the other runbooks wait for it."""
AGAIN_SECONDS = 0.01
"""How soon a file that continues is ended again."""
LONGEST = 300
_USERINFO = re.compile(r"://[^\s'\"]*@")  # a password may stand there, with a / in it
_VALUE = re.compile(r"((?:password|passwd|pwd|token|secret|signature|api_?key)=)[^\s&;,'\"]+", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^@/?#]*:([^@/?#]+)@")


_failed: dict[tuple[int, Path], tuple[float, str]] = {}
"""By process and file: when the file was changed and what was wrong then. A run looks for itself, once."""


class _TooLongError(BaseException):
    """No `except Exception` of the file ends it."""


def forget_failures() -> None:
    """Import again what failed: something else may have been corrected."""
    _failed.clear()


def load(file: RunbookFile, settings: Settings, *, seconds: float = IMPORT_SECONDS) -> dict[str, Flow[..., Any]]:
    """Import a file and return its runbooks by kind. Raises RunbookFileError that names the file and its line.

    What was imported before is what it was then, as all code of a process is. The time limit holds in the main thread.
    """
    if file.error is not None:
        raise RunbookFileError(file.error)
    this, changed = (os.getpid(), file.path), _changed(file.path)
    if this in _failed and _failed[this][0] == changed:
        raise RunbookFileError(_failed[this][1])
    try:
        with _at_most(seconds), _signals_of_others():
            module = _import(file)
    except _SignalledError as signalled:
        raise signalled.error from None
    except BaseException as error:  # those of asyncio and pytest are not an Exception, and must not end the others
        sys.modules.pop(file.module, None)
        failure = _error(file, error, _reason(error, seconds, settings))
        _failed[this] = changed, str(failure)
        raise failure from None
    found = {kind: getattr(module, kind, None) for kind in file.kinds}
    for kind, flow in found.items():
        if not isinstance(flow, Flow) or flow.name != kind:
            raise RunbookFileError(f"{file.path}: {kind} is not a runbook once the file is imported")
    return {kind: flow for kind, flow in found.items() if isinstance(flow, Flow)}


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0


def _import(file: RunbookFile) -> Any:
    if file.module.startswith(f"{FOLDER}."):
        folder = [str(file.path.parent)]
        if files.__path__ != folder:  # a command looked at another before, whose helpers may have the same names
            for name in [name for name in sys.modules if name.startswith(f"{FOLDER}.")]:
                del sys.modules[name]
                vars(files).pop(name.removeprefix(f"{FOLDER}."), None)
        files.__path__ = folder
    importlib.invalidate_caches()
    return importlib.import_module(file.module)


def _in_main_thread() -> bool:
    """Where alone signals arrive, and where what is printed may be turned aside without that of other threads."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """The time limit. What the file prints goes to stderr: stdout is the command's."""
    if not _in_main_thread():
        yield
        return

    def end(_number: int, frame: FrameType | None) -> None:
        if frames := _of_import(frame):  # else it is over
            for one in frames:
                one.f_trace = end_next_line
            sys.settrace(end_next_line)
            raise _TooLongError

    def end_next_line(frame: FrameType, event: str, _arg: Any) -> Any:
        """An `except:` around what waits catches the first error, and this one comes from within it."""
        if event == "line" and _of_import(frame):
            raise _TooLongError
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


def _of_import(frame: FrameType | None) -> list[FrameType]:
    """The frame and those below it, down to the import; none when the frame is Python's importing or not of it."""
    found: list[FrameType] = []
    while frame is not None and frame.f_code is not _import.__code__:
        found.append(frame)
        frame = frame.f_back
    frozen = [one.f_code.co_filename.startswith("<frozen") for one in found]
    if frame is None or not found or frozen[0]:
        return []
    return [one for one, skip in zip(found, frozen, strict=True) if not skip]


class _SignalledError(Exception):
    """What the handler of a real signal raised, which is not the file's."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


@contextmanager
def _signals_of_others() -> Iterator[None]:
    """Ctrl-C ends the command, whatever the file makes of it; KeyboardInterrupt of the file itself does not.

    Raises _SignalledError once the file is done with a signal whose handler raised.
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
            raise _SignalledError(raised[0])


def _reason(error: BaseException, seconds: float, settings: Settings) -> str:
    if isinstance(error, _TooLongError):
        return f"takes longer than {seconds:g} s to import"
    if isinstance(error, SystemExit):
        return "ends the process when it is imported (sys.exit)"
    said = _masked(" ".join(str(error).split()), settings)[:LONGEST]
    return f"{type(error).__name__}: {said}".rstrip(": ")


def _error(file: RunbookFile, error: BaseException, reason: str) -> RunbookFileError:
    """With the line that was executed last, of the file or of one beside it that it imports."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{one.filename}:{one.lineno}" for one in frames if Path(one.filename).parent == file.path.parent]
    return RunbookFileError(f"{lines[-1] if lines else file.path}: {reason}")


def _masked(text: str, settings: Settings) -> str:
    """An error may quote an address with its password."""
    secrets = [getattr(settings, name) for name in type(settings).model_fields]
    values = [one.get_secret_value() for one in secrets if isinstance(one, SecretStr)]
    parts = [part for value in values for part in _PASSWORD.findall(value)]
    for value in [*values, *parts, os.environ.get("PREFECT_API_AUTH_STRING", "")]:
        with suppress(UsageError):  # too short to be masked
            text = SecretPatterns({"setting": value}).mask(text) if value else text
    return _VALUE.sub(rf"\1{MASK.decode()}", _USERINFO.sub(f"://{MASK.decode()}@", text))
