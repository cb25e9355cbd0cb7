"""Which names a template may give to parameters and variables."""

from __future__ import annotations

import keyword
import re

from blocks.inherited import INHERITED
from flows.shell.environment import not_to_be_set

PREFIX = "PARAM_"
"""Each step has each parameter as this and its name in upper case."""

# What bash sets or obeys itself, and what the loader obeys.
SHELL_OWN = re.compile(
    r"(_|BASH.*|COMP_.*|COMP(REPLY|LETE)|COPROC|DIRSTACK|EPOCH(REALTIME|SECONDS)|EUID|FUNC(NAME|NEST)|GLOBIGNORE|GROUPS"
    r"|HISTCMD|HOST(NAME|TYPE)|IFS|LINENO|MACHTYPE|MAPFILE|OLDPWD|OPT(ARG|ERR|IND)|OSTYPE|PIPESTATUS|POSIXLY_CORRECT"
    r"|PPID|PS[0-4]|PROMPT_COMMAND|PWD|RANDOM|READLINE_.*|REPLY|SECONDS|SHELLOPTS|SHLVL|SRANDOM|TIMEFORMAT|UID|ENV)\Z"
)
# What programs execute, or take for options that make them execute something.
_DANGEROUS = re.compile(
    r"(LD_.*|OPS_.*|PREFECT_.*|PYTHON.*|PERL.*|RUBY.*|NODE_.*|LC_.*|GIT_.*COMMAND|GIT_(SSH|EXTERNAL_DIFF|CONFIG.*|DIR"
    r"|EXEC_PATH|TEMPLATE_DIR)|GIT_.*(EDITOR|PAGER|ASKPASS)|(.*_)?(EDITOR|PAGER|ASKPASS|RSH)|MANPAGER|VISUAL|BROWSER"
    r"|LESS|LESSOPEN|LESSCLOSE|TAR_OPTIONS|(GNU)?MAKEFLAGS|MFLAGS|PSQLRC|XDG_CONFIG_.*|.*JAVA_OPTIONS|JAVA_TOOL_OPTIONS"
    r"|RSYNC_.*_PROG|ZDOTDIR|INPUTRC|APT_CONFIG|.*KUBECONFIG|GCONV_PATH|OPENSSL_CONF|AWS_CONFIG_FILE|DOCKER_CONFIG"
    r"|ANSIBLE_CONFIG|LUA_INIT.*|VIMINIT|MAKEFILES|CDPATH)\Z"
)
_FOUND_BY = ("PATH", "SHELL", "HOME", "TMPDIR")
_PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}\Z")
# A runbook is a function of its parameters, and Prefect makes a pydantic model of them.
_OF_PYTHON = re.compile(r"(cls|self|wait_for|return_state|model_.*|v__.*)\Z")


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
    if keyword.iskeyword(name) or _OF_PYTHON.match(name):
        raise ValueError("Python or Prefect keeps that name for itself: take another, such as the_" + name)
    return name


def check_variable_name(name: str) -> str:
    """The name itself. Raises ValueError for one that a step cannot set."""
    if not _VARIABLE.match(name):
        raise ValueError("cannot be the name of an environment variable")
    if name.startswith(PREFIX):
        raise ValueError(f"names with {PREFIX} in front are those of parameters")
    if not_to_be_set(name):
        raise ValueError("a step cannot set that variable: it is the room's own, or changes how bash reads commands")
    return name


def may_be_parameter(name: str) -> bool:
    """Whether a variable that nothing sets stands for a parameter of that name, in lower case."""
    return bool(_PARAMETER.match(name.lower())) and not inherited(name.upper()) and not obeyed(name.upper())
