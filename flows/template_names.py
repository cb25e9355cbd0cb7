"""Which names a template may give to parameters and variables."""

from __future__ import annotations

import re

from flows.step_environment import INHERITED

PREFIX = "params_"
"""`${params.x}` becomes a reference to this and the name: a variable that nothing else sets."""

# What bash sets or obeys itself, and what the loader obeys.
SHELL_OWN = re.compile(
    r"(_|BASH.*|COMP_.*|COMP(REPLY|LETE)|COPROC|DIRSTACK|EPOCH(REALTIME|SECONDS)|EUID|FUNC(NAME|NEST)|GLOBIGNORE|GROUPS"
    r"|HISTCMD|HOST(NAME|TYPE)|IFS|LINENO|MACHTYPE|MAPFILE|OLDPWD|OPT(ARG|ERR|IND)|OSTYPE|PIPESTATUS|POSIXLY_CORRECT"
    r"|PPID|PS[0-4]|PROMPT_COMMAND|PWD|RANDOM|READLINE_.*|REPLY|SECONDS|SHELLOPTS|SHLVL|SRANDOM|TIMEFORMAT|UID|ENV)\Z"
)
_DANGEROUS = re.compile(r"(LD_.*|OPS_.*|PREFECT_.*|PYTHON.*|PERL.*|RUBY.*|NODE_.*|GIT_.*COMMAND|LC_.*)\Z")
_FOUND_BY = ("PATH", "SHELL", "HOME", "TMPDIR")
_PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}\Z")
_OF_PREFECT = ("cls", "self")


def inherited(name: str) -> bool:
    """Whether each step has the variable from the worker."""
    return name in INHERITED or name.startswith("LC_")


def obeyed(name: str) -> bool:
    """Whether bash, the loader or an interpreter does what the variable says."""
    return bool(SHELL_OWN.match(name) or _DANGEROUS.match(name)) or name in _FOUND_BY


def check_parameter_name(name: str) -> str:
    """The name itself. Raises ValueError for one that cannot be a parameter."""
    if not _PARAMETER.match(name):
        raise ValueError("want lower-case letters, digits and _, a letter first")
    upper = name.upper()
    if inherited(upper) or SHELL_OWN.match(upper) or _DANGEROUS.match(upper) or name in _OF_PREFECT:
        raise ValueError(f"a parameter cannot have that name: each step has it as {upper} too, which has a meaning")
    if name.startswith(PREFIX):
        raise ValueError(f"names with {PREFIX} in front are the room's own")
    return name


def check_variable_name(name: str) -> str:
    """The name itself. Raises ValueError for one that a step cannot set."""
    if not _VARIABLE.match(name):
        raise ValueError("cannot be the name of an environment variable")
    if name.startswith(PREFIX):
        raise ValueError(f"names with {PREFIX} in front are the room's own")
    return name


def may_be_parameter(name: str) -> bool:
    """Whether a variable that nothing sets may be a parameter of that name, in lower case."""
    try:
        check_parameter_name(name.lower())
    except ValueError:
        return False
    return True
