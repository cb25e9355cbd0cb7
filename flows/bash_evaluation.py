"""Where bash, or a program that it calls, would evaluate the value of a variable once more.

Elsewhere bash expands a quoted variable and does nothing further with the value. What is not known to be such a place
is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tree_sitter import Node

from flows.bash_programs import ASSIGNMENT, base, called_at, executes_input, is_interpreter
from flows.bash_tree import beginning, functions_of, literal, text_of, walk, words
from flows.template_names import obeyed

_TRANSPARENT = frozenset(
    re.split(
        " ",
        "program list subshell if_statement elif_clause else_clause while_statement do_group function_definition "
        "negated_command string concatenation variable_assignments array case_statement case_item file_redirect "
        "herestring_redirect heredoc_body parenthesized_expression process_substitution test_command for_statement",
    )
)
_ARITHMETIC_TESTS = {"-eq", "-ne", "-lt", "-le", "-gt", "-ge"}
_PLAIN_TESTS = {f"-{letter}" for letter in "abcdefghknprstuwxzGLNOS"}
_TAKE_NAMES = {
    *("let", "read", "unset", "getopts", "mapfile", "readarray", "wait", "source", ".", "eval", "trap", "alias"),
    *("enable", "bind", "compgen", "complete", "fc", "shopt", "hash"),
    *("at", "batch", "script", "expect"),  # programs whose names are words as well
}
_EVALUATE = {
    *("eval", "trap", "xargs", "su", "runuser", "watch", "parallel", "sqlite3", "make", "gmake", "tmux", "screen"),
    *("ansible", "gdb", "vim", "ex", "dc", "sg"),
}
_PROGRAM_TEXT = {"-c", "-e", "-E", "--command", "--eval", "--execute"}
_PROGRAM_FIRST = re.compile(r"(busybox|[gmn]?awk|g?sed|ed)\Z")  # as interpreters, in their first argument
_WRAPPERS = {"env", "sudo", "doas", "nohup", "setsid", "nice"}  # of a command behind another program, too
_SQL = {"psql", "mysql", "mariadb"}
_SQL_TEXT = re.compile(r"(-[A-Za-z0-9]*[cve]|--command|--set|--variable|--execute|--init-command)")
_EXECUTED_OPTIONS = {
    "find": re.compile(r"-(exec|execdir|ok|okdir)"),
    "git": re.compile(r"(-c\Z|--config-env|--upload-pack|--receive-pack|--exec)"),
    "rebase": re.compile(r"(-[A-Za-z]*x|--exe?)"),  # of git
    "rsync": re.compile(r"(-[A-Za-z]*e|--rsh|--rsync-path)"),
    "tar": re.compile(r"(-[A-Za-z]*[IF]|--(to-c|use-|checkpoint-|rsh-|rmt-|info-|new-)[a-z-]*)"),
    **dict.fromkeys(("sed", "gsed"), re.compile(r"(-[A-Za-z]*[ef]|--(e|fi)[a-z]*)")),  # also behind their files
    "scp": re.compile(r"-[A-Za-z0-9]*[oSD]"),
    "sftp": re.compile(r"-[A-Za-z0-9]*[oSDsb]"),
}
"""Options that name what a program executes: their value is the next word, or stands behind them in the same."""
_EXECUTED_FIRST = {"foreach": "submodule", "run": "bisect"}
"""Words whose first operand git executes, where that other word stands before."""
_SSH_WITH_VALUE = frozenset("BbcDEeFIiJLlmOoPpQRSWw")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Why a value must not stand there. A number may stand in `arithmetic`."""

    reason: str
    arithmetic: bool = False


def evaluation(node: Node) -> Evaluation | None:
    """What would evaluate the value that stands for this node, or None."""
    child, parent = node, node.parent
    while parent is not None:
        found = _by(parent, child)
        if found is not None:
            return found
        child, parent = parent, parent.parent
    return None


def arithmetic_names(root: Node) -> Iterator[Node]:
    """The names without a dollar sign that bash evaluates as arithmetic: each may be a variable."""
    for node in walk(root):
        if _is_arithmetic(node):
            # the array itself is no formula, its index is
            formula = node.children[2:] if node.type in ("subscript", "expansion") else [node]
            leaves = (leaf for part in formula for leaf in walk(part) if not leaf.children)
            yield from (leaf for leaf in leaves if leaf.type in ("variable_name", "word"))


def _is_arithmetic(node: Node) -> bool:
    first = node.children[0].type if node.children else ""
    if node.type == "binary_expression":
        return _evaluates_numbers(node)
    if node.type == "command":
        return literal(node.children[0]) == "let"
    if node.type == "expansion":  # ${text:offset:length}
        return any(child.type == ":" for child in node.children)
    return node.type in ("arithmetic_expansion", "subscript", "c_style_for_statement") or first == "(("


def _is_argument(redirect: Node, child: Node) -> bool:
    """The grammar counts what comes behind `< file` to the redirection."""
    if child.type in ("pipeline", "command", "file_redirect", "list"):
        return False
    targets = [one for one in redirect.children if one.is_named and one.type != "file_descriptor"]
    return child != targets[0]


def _evaluates_numbers(comparison: Node) -> bool:
    """`[[ a -gt b ]]` takes its words for formulas; `[ a -gt b ]` wants numbers, and fails."""
    if not any(text_of(child) in _ARITHMETIC_TESTS for child in comparison.children):
        return False
    parent = comparison.parent
    while parent is not None and parent.type != "test_command":
        parent = parent.parent
    return parent is None or parent.children[0].type != "["


def _by(parent: Node, child: Node) -> Evaluation | None:  # noqa: PLR0911, PLR0912  # one place after another
    first = parent.children[0].type
    match parent.type:
        case "compound_statement" | "test_command" if first == "((":
            return _ARITHMETIC
        case "c_style_for_statement" if child.type not in ("do_group", "compound_statement"):
            return _ARITHMETIC
        case "arithmetic_expansion":
            return _ARITHMETIC
        case "subscript":
            return Evaluation("in the index of an array, which bash evaluates", arithmetic=True)
        case "expansion":
            return Evaluation("within another ${...}")
        case "command_substitution" if first == "`":
            return Evaluation("within backquotes: write $(...)")
        case "declaration_command":
            options = "".join(text_of(one) for one in parent.children if text_of(one).startswith("-"))
            if child.type != "variable_assignment" or "i" in options or "n" in options:
                return Evaluation(f"in what {first} takes for a name or a formula")
        case "unary_expression":
            if not any(text_of(one) in _PLAIN_TESTS | {"!"} for one in parent.children):
                return Evaluation(f"behind {text_of(parent.children[0])}, which takes the name of a variable")
        case "binary_expression":
            if _evaluates_numbers(parent):
                return _ARITHMETIC
        case "variable_assignment":
            if child == parent.children[0]:
                return Evaluation("in the name of a variable")
            if obeyed(text_of(parent.children[0])):
                return Evaluation(f"in the value of {text_of(parent.children[0])}, which programs obey")
        case "command_name":
            return Evaluation("where the name of a command stands")
        case "command":
            return _by_command(parent, child)
        case "pipeline":
            return _by_readers(parent.children[parent.children.index(child) + 1 :])
        case "file_redirect" | "heredoc_redirect" if child.type != "heredoc_body" and _is_argument(parent, child):
            return Evaluation("behind a redirection, though it is an argument: write it in front of that")
        case "file_redirect" if any(one.type in (">&", "<&") for one in parent.children):
            return Evaluation("behind >& or <&, where bash expands it twice: write &> FILE, or > FILE 2>&1")
        case "heredoc_redirect":
            return _by_readers(parent.children) if child.type == "heredoc_body" else None
        case "redirected_statement":
            fed = child.type in ("heredoc_redirect", "herestring_redirect") or _feeds(child)
            return _by_readers(one for one in parent.children if one != child) if fed else None
        case "compound_statement" | "c_style_for_statement" | "command_substitution" | "test_command":
            return None
        case other if other not in _TRANSPARENT:
            return Evaluation(f"in a place ({other}) that is not known to leave it alone")
    return None


_ARITHMETIC = Evaluation("in arithmetic, which bash evaluates", arithmetic=True)


def _feeds(redirect: Node) -> bool:
    """Whether it is `< <(...)`."""
    return redirect.type == "file_redirect" and any(one.type == "process_substitution" for one in redirect.children)


def _by_readers(nodes: Iterator[Node] | Sequence[Node]) -> Evaluation | None:
    """A program that would execute what it reads."""
    for command in (one for node in nodes for one in walk(node) if one.type == "command"):
        if program := executes_input(command, functions_of(_root(command))):
            return Evaluation(f"in the input of {program}, which would execute it")
    return None


def _root(node: Node) -> Node:
    while node.parent is not None:
        node = node.parent
    return node


def _by_command(command: Node, child: Node) -> Evaluation | None:  # noqa: PLR0911  # one place after another
    given = words(command)
    if child.type == "herestring_redirect":
        return _by_readers([command])
    if child not in given:
        return None  # VAR=value before a command, or where its output goes
    if child.type == "process_substitution" and (found := _by_readers([command])):
        return found
    at = called_at(given)
    if at == given.index(child):
        return Evaluation(f"where {literal(given[0])} takes the name of a command")
    variable, sets, _ = beginning(child).partition("=")
    if given.index(child) < at and sets and obeyed(variable):
        return Evaluation(f"in the value of {variable}, which programs obey")
    said = [literal(word) for word in given[: given.index(child)]]
    for position, word in enumerate(said):
        reason = _by_word(base(word), position, said, beginning(child))
        if position > at and base(word) in _WRAPPERS and _names_program(said[position + 1 :], child):
            return Evaluation(f"where {word} takes the name of a command")
        if reason:
            return Evaluation(reason)
    return None


def _names_program(between: list[str | None], child: Node) -> bool:
    """Whether a word may be the name of a command for all that stands between it and a wrapper."""
    told = any(one and not one.startswith("-") and not ASSIGNMENT.match(one) for one in between)
    return not told and not ASSIGNMENT.match(beginning(child))


def _by_word(word: str, position: int, said: list[str | None], beginning: str) -> str | None:  # noqa: PLR0911
    """What the command's word at `position` does with an argument that comes after all that is `said`."""
    between = said[position + 1 :]
    before = said[-1] or ""
    leading = position == 0 or said[position - 1] in ("builtin", "command")
    if word in _EVALUATE or (leading and word in _TAKE_NAMES):
        return f"in an argument of {word}, which evaluates it"
    text_first = is_interpreter(word) or _PROGRAM_FIRST.match(word)
    if text_first and (not between or between[0] is None or between[0].startswith(("-", "+"))):
        return f"in an argument of {word} that may be program text"
    if word in _SQL and (_SQL_TEXT.match(before) or _SQL_TEXT.match(beginning)):
        return f"in SQL that {word} executes"
    if before in _PROGRAM_TEXT and (word == "flock" or (position == 0 and said[0] is None)):
        return f"behind {before}, which may take program text"
    if word == "ssh" and (_ssh_destination(between) or beginning.startswith("-")):
        return "in a command that ssh has a shell on the other host evaluate"
    if word == "env" and any((one or "").startswith(("-S", "--split")) for one in between):
        return "in text that env splits"
    if leading and word in ("printf", "test") and before == "-v":
        return f"where {word} takes the name of a variable"
    option = _EXECUTED_OPTIONS.get(word)
    if option and (option.fullmatch(before) or option.match(beginning)):
        return f"behind an option of {word} that names what it executes"
    verb = _EXECUTED_FIRST.get(word)
    if verb and verb in said[:position] and all(one and one.startswith("-") for one in between):
        return f"in the command that git {verb} {word} executes"
    if leading and word == "printf" and "%n" in "".join(one or "" for one in between):
        return "behind %n of printf, which takes the name of a variable"
    if leading and word == "printf" and all(one and one.startswith("-") for one in _without_variable(between)):
        return "in the format of printf: write printf '%s' in front"
    return None


def _without_variable(between: list[str | None]) -> list[str | None]:
    return between[2:] if between[:1] == ["-v"] else between


def _ssh_destination(between: list[str | None]) -> bool:
    """Whether the words after `ssh` hold its destination already, or end with an option's value to come."""
    skip = False
    for word in between:
        if skip:
            skip = False
        elif word is None or not word.startswith("-"):
            return True
        else:
            skip = len(word) == 2 and word[1] in _SSH_WITH_VALUE
    return skip
