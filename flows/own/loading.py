"""A file of runbooks is imported: what it does wrong is said in one line, and stops no other file."""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from prefect import Flow
from pydantic import SecretStr

from flows.own import files
from flows.shell.masking import MASK, SecretPatterns
from opsdb.errors import UsageError
from opsdb.kinds.runbook_files import FOLDER, RunbookFile, RunbookFileError
from opsdb.settings import Settings

IMPORT_SECONDS = 20.0
"""How long a file may take to be imported: the other runbooks wait for it."""
LONGEST = 300
_USERINFO = re.compile(r"://[^/\s]*@")  # a password may stand there
_PASSWORD = re.compile(r"://[^@/?#]*:([^@/?#]+)@")


class _TooLongError(BaseException):
    """No `except Exception` of the file ends it."""


def load(file: RunbookFile, settings: Settings, *, seconds: float = IMPORT_SECONDS) -> dict[str, Flow[..., Any]]:
    """Import a file and return its runbooks by kind. Raises RunbookFileError that names the file and its line.

    What was imported before is what it was then, as all code of a process is. The time limit holds in the main thread.
    """
    if file.error is not None:
        raise RunbookFileError(file.error)
    try:
        with _at_most(seconds):
            module = _import(file)
    except _TooLongError as error:
        raise _error(file, error, f"takes longer than {seconds:g} s to import") from None
    except SystemExit as error:
        raise _error(file, error, "ends the process when it is imported (sys.exit)") from None
    except Exception as error:
        said = _masked(" ".join(str(error).split()), settings)[:LONGEST]
        raise _error(file, error, f"{type(error).__name__}: {said}".rstrip(": ")) from None
    found = {kind: getattr(module, kind, None) for kind in file.kinds}
    for kind, flow in found.items():
        if not isinstance(flow, Flow) or flow.name != kind:
            raise RunbookFileError(f"{file.path}: {kind} is not a runbook once the file is imported")
    return {kind: flow for kind, flow in found.items() if isinstance(flow, Flow)}


def _import(file: RunbookFile) -> Any:
    if file.module.startswith(f"{FOLDER}."):
        files.__path__ = [str(file.path.parent)]
        known = sys.modules.get(file.module)
        if known is not None and known.__file__ != str(file.path):
            del sys.modules[file.module]  # of another folder, which a command looked at before
    importlib.invalidate_caches()
    return importlib.import_module(file.module)


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        raise _TooLongError

    handler = signal.signal(signal.SIGALRM, end)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


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
    return _USERINFO.sub(f"://{MASK.decode()}@", text)
