"""Which program a command calls: behind `sudo`, `timeout` and the like stands another one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tree_sitter import Node

from flows.bash_tree import BUILTINS, beginning, functions_of, literal, walk, words

ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
OF_SHELL: Mapping[str, str] = {"time": "", "command": "", "exec": "a", "builtin": ""}
"""What of bash itself calls what stands behind it, with the letters of its options that take a value."""
WRAPPERS: Mapping[str, str] = {
    **OF_SHELL,
    "env": "uC",
    "sudo": "ugpCDRThr",
    "doas": "uC",
    "nohup": "",
    "setsid": "",
    "nice": "n",
    "ionice": "cnp",
    "timeout": "ks",
    "flock": "wE",
    "stdbuf": "ioe",
    "chroot": "",
    "taskset": "",
    "chrt": "",
    "unbuffer": "",
    "strace": "eopsu",
}
_OPERANDS = {"timeout": 1, "flock": 1, "chroot": 1, "taskset": 1, "chrt": 1}
_LONG_WITH_VALUE = re.compile(r"--(user|group|chdir|chroot|host|prompt|unset|signal|kill-after|adjustment|class)\Z")

SHELL = re.compile(r"(ba|da|z|k|mk|fi|c|tc|a)?sh\Z")
_SCRIPT_READER = re.compile(r"(perl|python[0-9.]*|ruby|node|nodejs|php)\Z")
_READ_PROGRAMS = {
    *(
        "ssh",
        "psql",
        "mysql",
        "mariadb",
        "sqlite3",
        "xargs",
        "parallel",
        "at",
        "batch",
        "crontab",
        "eval",
        "source",
        ".",
        "dc",
    ),
}
_ASKING = {"command", "type", "which", "hash"}
_INPUT = re.compile(r"(-|/dev/stdin|/dev/fd/.*|/proc/.*|[0-9]+)\Z")


def base(word: str | None) -> str:
    """The name of a program without its folder; empty for one that is not known."""
    return (word or "").rpartition("/")[2]


def is_interpreter(name: str) -> bool:
    """Whether a program executes its input when it is given nothing else."""
    return bool(SHELL.match(name) or _SCRIPT_READER.match(name))


def called_at(given: Sequence[Node], wrappers: Mapping[str, str] = WRAPPERS) -> int:
    """Where among a command's words the program stands; behind all of them when there is none."""
    at = 0
    while at < len(given) and (wrapper := base(literal(given[at]))) in wrappers:
        operands = _OPERANDS.get(wrapper, 0)
        at += 1
        while at < len(given):
            said = literal(given[at])
            if said is not None and said.startswith("-"):
                at += 2 if _takes_value(said, wrappers[wrapper]) else 1
            elif ASSIGNMENT.match(beginning(given[at])):
                at += 1
            elif operands:
                operands -= 1
                at += 1
            else:
                break
    return at


def _takes_value(option: str, letters: str) -> bool:
    """Whether the value of an option is the next word: `-u` and `-nu`, but not `-uroot`."""
    with_value = [at for at, letter in enumerate(option) if at and letter in letters]
    alone = bool(with_value) and with_value[0] == len(option) - 1
    return bool(_LONG_WITH_VALUE.match(option)) or (not option.startswith("--") and alone)


def executes_input(command: Node, functions: Mapping[str, Node]) -> str | None:
    """The program of a command that may execute what it reads: any of its words may be one."""
    given = [base(literal(word)) for word in words(command)]
    for at, word in enumerate(given):
        rest = given[at + 1 :]
        alone = not any(later and not later.startswith(("-", "+")) and later != "stdin" for later in rest)
        if word in _READ_PROGRAMS or (alone and is_interpreter(word)):
            return word
        if word in ("odoo", "odoo-bin") and "shell" in rest:
            return f"{word} shell"
        if word in functions and any(
            executes_input(one, {name: node for name, node in functions.items() if name != word})
            for one in walk(functions[word])
            if one.type == "command"
        ):
            return word
    return None


def program_from_input(command: Node) -> str | None:
    """The interpreter that a command starts without saying what it executes, but for a plain file: `bash < file`."""
    given = words(command)
    at = called_at(given)
    name = base(literal(given[at])) if at < len(given) else ""
    is_shell = SHELL.match(name)
    if not is_interpreter(name):
        return None
    rest = iter(given[at + 1 :])
    for word in rest:
        said = literal(word)
        if said is None:
            return name if any(one.type == "process_substitution" for one in walk(word)) else None
        if _INPUT.match(said):
            break
        if said in ("--version", "--help", "-V"):
            return None
        if not said.startswith(("-", "+")):
            return None
        if said[0] == "-" and not said.startswith("--") and any(one in said for one in ("c" if is_shell else "cemrE")):
            return None  # its text is an argument
        if is_shell and (said[1:] in ("o", "O") or said in ("--rcfile", "--init-file")):
            next(rest, None)
    return None if _is_fed_by_file(command) else name


def text_to_execute(command: Node) -> str | None:
    """The text that a command keeps for bash, or gives to a shell, without an expansion: `trap '...' EXIT`."""
    given = words(command)
    at = called_at(given)
    said = [literal(word) for word in given[at:]]
    name = base(said[0] if said else None)
    options = [bool(word and word.startswith(("-", "+")) and len(word) > 1) for word in said[1:]]
    texts = [word for word, option in zip(said[1:], options, strict=True) if not option]
    is_text = name == "trap" or (
        SHELL.match(name)
        and any(option and "c" in (word or "") for word, option in zip(said[1:], options, strict=True))
    )
    return texts[0] if is_text and texts else None


def _is_fed_by_file(command: Node) -> bool:
    statement = command.parent
    if statement is None or statement.type != "redirected_statement":
        return False
    files = [one for one in statement.children if one.type == "file_redirect" and one.children[0].type == "<"]
    named = [literal(one.children[1]) for one in files]
    return bool(named) and all(name is not None and not _INPUT.match(name) for name in named)


def programs(root: Node) -> list[str]:
    """The programs that the command calls by name, except those that it asks for first."""
    asked: set[str] = set()
    called: list[str] = []
    for node in walk(root):
        if node.type == "command":
            given = words(node)
            said = [literal(word) for word in given]
            if said[0] in _ASKING and (said[0] != "command" or "-v" in said or "-V" in said):
                asked |= {word for word in said[1:] if word}
            else:
                called += [name for name in said[called_at(given, OF_SHELL) :][:1] if name]
    own = functions_of(root).keys() | asked | BUILTINS
    return list(dict.fromkeys(name for name in called if "/" not in name and name not in own))
