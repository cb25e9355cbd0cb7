"""Which variables of a command hold a value from outside."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from tree_sitter import Node

from flows.bash_tree import filled_by, functions_of, literal, text_of, variable, walk, words

POSITIONAL = ("@", "*", *"123456789")
# bash fills these by itself, with what it read, matched or executed last
_IMPLICIT = ("_", "REPLY", "MAPFILE", "OPTARG", "BASH_REMATCH", "BASH_COMMAND", "DIRSTACK")
_WHOLE_ENVIRONMENT = ("env", "printenv", "compgen")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LITERAL = ("word", "string_content", "raw_string", "regex", "heredoc_content", "number")


def names_any(root: Node, names: Collection[str]) -> bool:
    """Whether the text names one of the variables, in whatever place, or what has all of them."""
    text = text_of(root)
    said = set(_NAME.findall(text))
    return bool(names) and ("${!" in text or not said.isdisjoint(names) or not said.isdisjoint(_WHOLE_ENVIRONMENT))


def reads(node: Node, tainted: Mapping[str, bool]) -> bool:
    """Whether the node stands for the value of one of the variables."""
    return node.type in ("expansion", "simple_expansion") and variable(node) in tainted


def spread(root: Node, tainted: Mapping[str, bool], *, by_name: bool = False) -> dict[str, bool]:
    """With the variables to which the command gives such a value: True for what can only be a number.

    With `by_name` also those to which it gives the name of one, which arithmetic takes for the value.
    """
    if not names_any(root, tainted):
        return dict(tainted)
    spread = {**tainted, **dict.fromkeys(_IMPLICIT, False)}
    nodes = list(walk(root))
    functions = functions_of(root)
    if by_name:  # what a function prints may be anything
        spread |= dict.fromkeys(functions, False)

    def found(parts: Iterable[Node]) -> list[str]:
        return list(_named(parts, spread, by_name=by_name))

    while True:
        before = dict(spread)
        for node in nodes:
            match node.type:
                case "variable_assignment" | "for_statement":
                    name = variable(node) or ""
                    of_positional = node.type == "for_statement" and not any(one.type == "in" for one in node.children)
                    outside = found(node.children[1:])
                    if outside or (of_positional and "@" in spread):
                        number = node.type == "variable_assignment" and all(
                            spread[one] and text_of(node.children[-1]).strip('"') in (one, f"${one}", f"${{{one}}}")
                            for one in outside
                        )
                        spread[name] = spread.get(name, True) and number
                case "expansion" if any(one.type in (":=", "=") for one in node.children):
                    if found(node.children[2:]):
                        spread[variable(node) or ""] = False
                case "command":
                    said = [literal(word) for word in words(node)]
                    calls = said[0] is None or any(word in functions or word == "set" for word in said)
                    if calls and found(words(node)[1:]):
                        spread |= dict.fromkeys(POSITIONAL, False)
                    if filled_by(node) and (by_name or _within(node, functions) or found([_fed(node)])):
                        spread |= dict.fromkeys(filled_by(node), False)
        if spread == before:
            return spread


def _named(parts: Iterable[Node], spread: Mapping[str, bool], *, by_name: bool) -> Iterator[str]:
    for part in parts:
        if part.type == "do_group":
            continue
        for one in walk(part):
            if reads(one, spread):
                yield variable(one) or ""
            elif by_name and one.type in _LITERAL and not _is_option(one):
                yield from (name for name in _NAME.findall(text_of(one)) if name in spread)


def _is_option(word: Node) -> bool:
    return word.parent is not None and word.parent.type == "command" and text_of(word).startswith("-")


def _within(node: Node, functions: Mapping[str, Node]) -> bool:
    """What a function reads may come from where it is called."""
    return any(body.start_byte <= node.start_byte < body.end_byte for body in functions.values())


def _fed(command: Node) -> Node:
    """The statement that says where the input of a command comes from."""
    found, parent = command, command.parent
    while parent is not None and parent.type not in ("program", "command_substitution"):
        if parent.type in ("redirected_statement", "pipeline"):
            found = parent
        parent = parent.parent
    return found
