"""The words of a template: the names that it may give, and the values that may become part of a command's text.

A value there holds nothing that means anything to bash.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from blocks.inherited import INHERITED
from flows.shell.environment import not_to_be_set
from opsdb.kinds.subjects import REFERENCE

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
LONGEST = 1_000
CARRIERS = "x-carriers"
"""Where the schema of such a parameter has its carriers, for those who ask before a run starts."""
_FIRST = "A-Za-z0-9_./"
_LATER = ":@%+,-"
_WORD = re.compile(r"[A-Za-z0-9_]+")
IN_WORDS = (
    f"up to {LONGEST:,} letters, digits and _ . / : @ % + , - (the first one a letter, digit or _ . /), "
    "without two dots in a row"
)


def inherited(name: str) -> bool:
    """Whether each step has the variable from the worker."""
    return name in INHERITED or name.startswith("LC_")


def obeyed(name: str) -> bool:
    """Whether bash, the loader or an interpreter does what the variable says."""
    return bool(SHELL_OWN.match(name) or _DANGEROUS.match(name)) or name in _FOUND_BY


def check_parameter_name(name: str) -> str:
    """The name itself. Raises ValueError for one that cannot be a parameter."""
    if not _PARAMETER.match(name):
        raise ValueError("expected lower-case letters, digits and _, a letter first")
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


def refusal(name: str, text: str, *, carriers: Collection[str], may_be_empty: bool = False) -> str | None:
    """Why the text cannot stand in a command as the value of that parameter, and the way out; None when it can.

    `carriers` are words that have a meaning in the steps: variables that hold a parameter's value, for bash evaluates
    what they hold where it needs a number, and the ends of here-documents.
    """
    if not text:
        return None if may_be_empty else f"{name} is empty. Hint: `min_length: 0` in the template allows that"
    reason = None
    if len(text) > LONGEST:
        reason = f"has {len(text):,} characters, too many for"
    elif not re.match(f"[{_FIRST}]", text):
        reason = f"begins with {text[0]!r}, which is not allowed in"
    elif wrong := re.search(f"[^{_FIRST}{_LATER}]", text):
        reason = f"contains {wrong[0]!r}, which is not allowed in"
    elif ".." in text:
        reason = "contains '..', which is not allowed in"
    elif text.endswith("@P"):
        reason = "ends with '@P', an operator of bash, which is not allowed in"
    elif words := [word for word in _WORD.findall(text) if word in carriers or word.startswith(PREFIX)]:
        reason = f"contains {words[0]!r}, a variable or the end of a document in the steps, which is not allowed in"
    if reason is None:
        return None
    return (
        f"{name} {reason} the text of a command. Allowed: {IN_WORDS}. Hint: the template can pass any other text in "
        f'the environment, as "${variable_of(name)}" or by `env`'
    )


def misjoined(text: str, values: Mapping[str, str], *, marks: Collection[str]) -> str | None:
    """Why values that are fine by themselves are not in their places: they make `..`, or end a here-document.

    `marks` are the words that end the here-documents of the text. Values hold no newline, so lines stay lines.
    """
    for line in text.split("\n"):
        filled = REFERENCE.sub(lambda match: values[match[1]], line)
        if filled == line:
            continue
        if len(re.findall(r"(?=\.\.)", filled)) > len(re.findall(r"(?=\.\.)", REFERENCE.sub("x", line))):
            return f"{filled.strip()[:200]!r} contains '..', made by a value and what stands beside it"
        if filled.lstrip("\t") in marks:
            return f"{filled.strip()!r} would end the here-document in which it stands"
    return None


def variable_of(name: str) -> str:
    """The environment variable by which every step has a parameter."""
    return f"{PREFIX}{name.upper()}"


def checked(name: str, *, carriers: Collection[str], may_be_empty: bool) -> Callable[[Any], Any]:
    """A validator of a parameter that commands name; of a list it checks each item."""

    def check(value: Any) -> Any:
        for text in value if isinstance(value, list) else [value]:
            if reason := refusal(name, text, carriers=carriers, may_be_empty=may_be_empty):
                raise ValueError(reason)
        return value

    return check


def form_pattern(*, carriers: Collection[str], may_be_empty: bool) -> str:
    """The same rule for the form, as a regular expression of ECMAScript and Python, in time linear to the text."""
    others = (rf"{name}\b" for name in sorted(carriers) if not name.startswith(PREFIX))
    names = "|".join([PREFIX, *others])
    none_of = rf"(?!.*(?:\.\.|@P$|\b(?:{names})))"
    word = f"{none_of}[{_FIRST}][{_FIRST}{_LATER}]*"
    return f"^(?:{word})?$(?![\\s\\S])" if may_be_empty else f"^{word}$(?![\\s\\S])"
