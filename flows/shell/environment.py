"""The environment of a step: a short list of its parent's variables, and its own."""

from __future__ import annotations

import re
from collections.abc import Mapping

from blocks.inherited import inherited
from opsdb.errors import UsageError
from opsdb.processes.find import RUN_ID_VARIABLE, STEP_VARIABLE

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Ours, the server's, and those by which bash runs other code or by other rules before the command.
_REFUSED = re.compile(
    rf"({RUN_ID_VARIABLE}|{STEP_VARIABLE}|PREFECT_.*|OPS_DATABASE_URL|BASH_ENV|ENV|SHELLOPTS|BASHOPTS)\Z"
)
_LONGEST_ARGUMENT = 128 * 1024 - 1  # bytes: MAX_ARG_STRLEN, execve(2)


def step_environment(*, env: Mapping[str, str], secrets: Mapping[str, str], run_id: str, step: str) -> dict[str, str]:
    """The whole environment of the step. Raises UsageError, which names the variable and never its value."""
    for name, value in [*env.items(), *secrets.items()]:
        if not _NAME.match(name):
            raise UsageError(f"{name!r} cannot be the name of an environment variable")
        if not_to_be_set(name):
            raise UsageError(f"a step cannot set the environment variable {name}")
        check_text(f"the value of {name}", value, beside=len(name) + 1)
    if both := sorted(env.keys() & secrets.keys()):
        raise UsageError(f"both in env and in secrets: {', '.join(both)}")
    check_text("run_id", run_id)
    check_text("step", step)
    return {**inherited(), **env, **secrets, RUN_ID_VARIABLE: run_id, STEP_VARIABLE: step}


def not_to_be_set(name: str) -> bool:
    """Whether a step cannot set that variable."""
    return bool(_REFUSED.match(name))


def check_text(what: str, text: str, *, beside: int = 0) -> None:
    """Refuse what execve(2) cannot carry."""
    if "\0" in text:
        raise UsageError(f"{what} holds a NUL character")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{what} cannot be written as UTF-8") from None  # it would quote the text
    if size + beside > _LONGEST_ARGUMENT:
        raise UsageError(f"{what} is {size:,} bytes long, which is more than a process can be started with")
