"""A file of runbooks is imported: what it does wrong is said in one line, and stops no other file."""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect import Flow
from pydantic import SecretStr

import flows.engine.approval
import flows.engine.runbook
import flows.engine.step  # noqa: F401  # what runbooks import is here before their time begins
from flows.own import files
from flows.own.import_limits import SignalledError, TooLongError, at_most, signals_of_others
from flows.shell.masking import MASK, SecretPatterns
from opsdb.errors import UsageError
from opsdb.kinds.runbook_files import FOLDER, RunbookFile, RunbookFileError
from opsdb.settings import Settings

IMPORT_SECONDS = 20.0
"""How long a file may take to be imported: the other runbooks wait for it."""
LONGEST = 300
_USERINFO = re.compile(r"://[^\s'\"]*@")  # a password may stand there, with a / in it
_VALUE = re.compile(r"((?:password|passwd|pwd|token|secret|signature|api_?key)=)[^\s&;,'\"]+", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^@/?#]*:([^@/?#]+)@")


_failed: dict[tuple[int, Path], tuple[float, str]] = {}
"""By process and file: when the file was changed and what was wrong then. A run looks for itself, once."""


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
        with at_most(seconds, _import.__code__), signals_of_others():
            module = _import(file)
    except SignalledError as signalled:
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


def _reason(error: BaseException, seconds: float, settings: Settings) -> str:
    if isinstance(error, TooLongError):
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
