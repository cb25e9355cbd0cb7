"""What a command that names a parameter cannot hold: with it, bash executes values in too many ways to follow."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree_sitter import Node

from flows.bash_programs import base, called_at, executes_input, is_interpreter, program_from_input
from flows.bash_tree import filled_by, functions_of, literal, text_of, variable, walk, words
from flows.template_names import obeyed

_DECLARE = ("declare", "typeset", "local", "readonly", "export")
_FILL = ("read", "unset", "mapfile", "readarray", "getopts", "wait")
_INDEX = "an index: give the element a variable of its own"
_VARIABLES_TEST = '-v or -R: compare with [ -n "${name-}" ]'


def refused(root: Node) -> Iterator[str]:
    """Each such construct, with what to write instead."""
    functions = functions_of(root)
    for node in walk(root):
        match node.type:
            case "expansion" if not _is_plain(node):
                yield f"{text_of(node)}: use the variable itself, with no other operators than - = + ? # % / ^ , and :"
            case "function_definition" if text_of(node.children[0]) == "function":
                yield "`function f {`: write `f() {`"
            case "declaration_command":
                options = [text_of(one) for one in node.children if text_of(one).startswith(("-", "+"))]
                if any(letter in option for option in options for letter in "in"):
                    yield f"{text_of(node.children[0])} {options[0]}: leave out the letters i and n"
            case "array" if any(text_of(one).startswith("[") for one in node.children):
                yield _INDEX
            case "unset_command" if "[" in text_of(node):
                yield _INDEX
            case "test_command" if any(text_of(one) in ("-v", "-R") for one in walk(node)):
                yield _VARIABLES_TEST
            case "for_statement" if obeyed(variable(node) or ""):
                yield f"a loop that sets {variable(node)}, which programs obey: take another name"
            case "process_substitution" if node.children[0].type == ">(":
                commands = [one for one in walk(node) if one.type == "command"]
                if any(executes_input(one, functions) for one in commands):
                    yield f"{text_of(node)}: write the output into a file"
            case "command":
                yield from _of_command(node)


def _of_command(node: Node) -> Iterator[str]:
    given = words(node)
    at = called_at(given)
    said = [literal(word) for word in given[at:]]
    name, rest = base(said[0] if said else None), said[1:]
    if said and said[0] is None and not _ends_in_a_name(text_of(given[at])):
        yield f"{text_of(given[at])} as the name of a command: write the name"
    if name in ("mapfile", "readarray") and any((one or "").startswith("-C") for one in rest):
        yield f"{name} -C: read the lines in a loop"
    if name in ("eval", "let", "coproc", "alias", *_DECLARE):
        yield f"{name}: write what it would do"
    if name in _FILL and any("[" in text_of(word) for word in given):
        yield _INDEX
    if (
        name == "printf"
        and (rest[0] or "" if rest else "").startswith("-v")
        and any("[" in (one or "[") for one in rest[:2])
    ):
        yield _INDEX
    if name in ("test", "[") and ("-v" in rest or "-R" in rest):
        yield _VARIABLES_TEST
    for one in sorted(filled_by(node) - {"_"}):
        if obeyed(one):
            yield f"{name} that sets {one}, which programs obey: take another name"
    if interpreter := program_from_input(node):
        yield f"{interpreter} that executes its input: give it a script, or a plain file: {interpreter} < file"


def _ends_in_a_name(word: str) -> bool:
    """Whether it is `"$folder/program"`: only the folder is a variable."""
    _, slash, name = word.strip('"').rpartition("/")
    return bool(slash and re.fullmatch(r"[A-Za-z0-9_.+-]+", name)) and not is_interpreter(name)


def _is_plain(expansion: Node) -> bool:
    """Whether it is `${name}`, `${name[index]}` or `${#name}`, with an operator that takes the value as it is."""
    text = expansion.text or b""
    if text.startswith(b"${!"):
        return text == b"${!}"
    for child in expansion.children:
        if child.type in ("variable_name", "special_variable_name", "subscript"):
            return text[child.end_byte - expansion.start_byte :][:1] in b"}:-=+?#%/^,"
    return text in (b"${#}", b"${?}", b"${$}", b"${-}", b"${@}", b"${*}")
