"""Which program a command calls: behind `sudo`, `timeout` and the like stands another one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

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
_SCRIPT_READER = re.compile(
    r"(perl[0-9.]*|python[0-9.]*|ruby[0-9.]*|node|nodejs|deno|php[0-9.]*|lua(jit)?[0-9.]*|tclsh[0-9.]*|expect"
    r"|osascript)\Z"
)
_READ_PROGRAMS = {
    *("ssh", "sftp", "psql", "mysql", "mariadb", "sqlite3", "xargs", "parallel", "at", "batch", "crontab"),
    *("eval", "source", ".", "dc", "ed", "ex", "vim", "gdb"),
}
_TOLD_TO_READ: Mapping[str, re.Pattern[str]] = {
    "odoo": re.compile(r"shell\Z"),
    "odoo-bin": re.compile(r"shell\Z"),
    "sudo": re.compile(r"(-[A-Za-z]*[is]|--login|--shell)"),
    "doas": re.compile(r"-[A-Za-z]*s"),
}
"""Programs that execute their input when one of their words says so; sudo and doas only without a command."""
_LOGIN = re.compile(r"(su|runuser|sg)\Z")  # a shell, unless it is given a command
_LOGIN_COMMAND = re.compile(r"(-[A-Za-z]*[cu]|--(session-)?command|--user)")
_PROGRAM_FILE_READER = re.compile(r"([gmn]?awk|g?sed|g?make)\Z")
_PROGRAM_FILE = re.compile(r"(-[A-Za-z]*f|--(fi|mak)[a-z]*=?)(?P<file>.*)")  # or it is the next word
_ASKING = {"command", "type", "which", "hash"}
_INPUT_FILE = re.compile(r"(-|/dev/stdin|/dev/fd/.*|/proc/.*)\Z")
_INPUT = re.compile(rf"({_INPUT_FILE.pattern}|[0-9]+\Z)")


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
    given = words(command)
    said = [base(literal(word)) for word in given]
    for at, word in enumerate(said):
        if word in _READ_PROGRAMS or _reads_program(word, given[at:]):
            return word
        if word in functions and any(
            executes_input(one, {name: node for name, node in functions.items() if name != word})
            for one in walk(functions[word])
            if one.type == "command"
        ):
            return word
    return None


def _reads_program(name: str, given: Sequence[Node]) -> bool:
    """Whether a program with these words, of which its name is the first, takes what it executes from its input."""
    said = [literal(word) for word in given[1:]]
    known = [word for word in said if word]
    if is_interpreter(name):
        arguments = given[2:] if name == "deno" and said[:1] == ["run"] else given[1:]
        alone = not any(word and not word.startswith(("-", "+")) for word in map(literal, arguments))
        return alone or _names_no_program(name, arguments)
    if _LOGIN.match(name):
        return not any(_LOGIN_COMMAND.match(word) for word in known)
    if _PROGRAM_FILE_READER.match(name):
        # the grammar loses a dash that stands in front of <<
        files = [(_PROGRAM_FILE.fullmatch(word or ""), later) for word, later in pairwise([*said, "-"])]
        return any(option and _INPUT_FILE.match(option["file"] or later or "") for option, later in files)
    if name in _TOLD_TO_READ and any(_TOLD_TO_READ[name].match(word) for word in known):
        return name not in WRAPPERS or called_at(given) == len(given)
    return False


def program_from_input(command: Node) -> str | None:
    """The interpreter that a command starts without saying what it executes, but for a plain file: `bash < file`."""
    given = words(command)
    at = called_at(given)
    name = base(literal(given[at])) if at < len(given) else ""
    reads = is_interpreter(name) and _names_no_program(name, given[at + 1 :])
    return name if reads and not _is_fed_by_file(command) else None


def _names_no_program(name: str, given: Sequence[Node]) -> bool:
    """Whether an interpreter's arguments leave open what it executes, or say that it is the input."""
    is_shell = SHELL.match(name)
    rest = iter(given)
    for word in rest:
        said = literal(word)
        if said is None:
            return any(one.type == "process_substitution" for one in walk(word))
        if _INPUT.match(said) or (is_shell and re.match(r"-[A-Za-z]*s", said)):
            return True
        if said in ("--version", "--help", "-V") or not said.startswith(("-", "+")):
            return False
        if said[0] == "-" and not said.startswith("--") and any(one in said for one in ("c" if is_shell else "cemrE")):
            return False  # its text is an argument
        if is_shell and (said[1:] in ("o", "O") or said in ("--rcfile", "--init-file")):
            next(rest, None)
    return True


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
