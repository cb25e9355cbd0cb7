"""What a bash command consists of, by the grammar of tree-sitter: variables it reads and sets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

_DEFAULTING = {":-", "-", ":=", "=", ":+", "+", ":?", "?"}
_SETTERS = {"read", "mapfile", "readarray", "getopts"}
BUILTINS = frozenset(
    re.split(
        " ",
        ". : [ alias bg bind break builtin caller cd command compgen complete compopt continue declare dirs disown "
        "echo enable eval exec exit export false fc fg getopts hash help history jobs kill let local logout mapfile "
        "popd printf pushd pwd read readarray readonly return set shift shopt source suspend test times trap true "
        "type typeset ulimit umask unalias unset wait time",
    )
)


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_bash.language()))


def parse(command: str) -> Node:
    """The tree of a command. Offsets in it count bytes of UTF-8."""
    return _parser().parse(command.encode()).root_node


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it, in the order of the text."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        yield here
        waiting += reversed(here.children)


def text_of(node: Node) -> str:
    """The text of a node."""
    return (node.text or b"").decode()


def literal(node: Node) -> str | None:
    """What a word says without any expansion, or None."""
    match node.type:
        case "word" | "number" | "string_content" | "test_operator":
            return text_of(node).replace("\\\n", "").replace("\\", "")
        case "raw_string":
            return text_of(node)[1:-1]
        case "string" | "concatenation" | "command_name":
            parts = [literal(child) for child in node.children if child.type != '"']
            return None if None in parts else "".join(part or "" for part in parts)
        case _:
            return None


def variable(node: Node) -> str | None:
    """The name of the variable that `$name` or `${name...}` reads."""
    for child in node.children:
        if child.type in ("variable_name", "special_variable_name"):
            return text_of(child)
        if child.type == "subscript" and child.children:
            return text_of(child.children[0])
    return None


def beginning(node: Node) -> str:
    """The text of a word before its first expansion."""
    text = ""
    for one in walk(node):
        if one.type in ("expansion", "simple_expansion", "command_substitution"):
            break
        if not one.children and one.type != '"':
            text += text_of(one)
    return text


def words(command: Node) -> list[Node]:
    """The name of a simple command and its arguments."""
    other = ("variable_assignment", "file_redirect", "herestring_redirect", "heredoc_redirect")
    return [child for child in command.children if child.is_named and child.type not in other]


def functions_of(root: Node) -> dict[str, Node]:
    """The functions that the command defines, by name."""
    return {text_of(node.children[0]): node for node in walk(root) if node.type == "function_definition"}


def read_unguarded(root: Node) -> list[str]:
    """The variables that are read as `${NAME}`, without anything for the case that they are not set."""
    names = [
        variable(node)
        for node in walk(root)
        if node.type == "expansion" and not any(child.type in _DEFAULTING for child in node.children)
    ]
    return list(dict.fromkeys(name for name in names if name))


def set_here(root: Node) -> set[str]:
    """The variables that the command itself gives a value."""
    found: set[str] = set()
    for node in walk(root):
        sets = node.type == "expansion" and any(child.type in (":=", "=") for child in node.children)
        if sets or node.type in ("variable_assignment", "for_statement"):
            found.add(variable(node) or "")
        elif node.type == "declaration_command":
            found |= {text_of(child) for child in node.children if child.type == "variable_name"}
        elif node.type == "command":
            found |= filled_by(node)
    return found


def filled_by(command: Node) -> set[str]:
    """The variables that a command such as `read` puts its input into."""
    given = [literal(word) or "" for word in words(command)]
    while given[:1] and given[0] in ("builtin", "command"):
        del given[0]
    if given[:1] and given[0] in _SETTERS:
        return {*given[1:], *(word[2:] for word in given[1:] if word.startswith("-") and len(word) > 2)}
    if given[:1] == ["printf"] and len(given) > 1 and given[1].startswith("-v"):
        return {given[1][2:] or "".join(given[2:3])}
    return set()
