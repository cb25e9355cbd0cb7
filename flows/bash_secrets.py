"""Where a command would show a secret: the arguments of a program are for everybody on the host to read."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tree_sitter import Node

from flows.bash_programs import OF_SHELL, base, called_at
from flows.bash_taint import reads, spread
from flows.bash_tree import BUILTINS, literal, text_of, variable, walk, words

_OF_ENVIRONMENT = ("printenv", "env", "envsubst", "set", "compgen")
# What comes out of these is what went in, or lets it be read; other programs make something of their own of it.
_PASS_ON = {
    *("cat", "tac", "rev", "head", "tail", "cut", "tr", "sed", "awk", "gawk", "mawk", "grep", "egrep", "fgrep", "sort"),
    *("uniq", "tee", "fold", "fmt", "paste", "column", "nl", "dd", "xargs", "env", "printenv", "envsubst", "jq", "yq"),
    *("base64", "base32", "basenc", "xxd", "od", "hexdump", "uuencode", "gzip", "bzip2", "xz", "zstd", "iconv", "perl"),
}


def shown(root: Node, secret: Collection[str]) -> Iterator[str]:
    """The variables with a secret that stand in an argument of a program, also by way of other programs."""
    known = spread(root, dict.fromkeys(secret, False))
    for node in walk(root):
        name = variable(node) if reads(node, known) else None
        if name and _reaches_argument(node):
            yield name
        if secret and _shows_environment(node, secret) and _is_substituted(node):
            yield min(secret)


def _shows_environment(command: Node, secret: Collection[str]) -> bool:
    """`printenv TOKEN`, or the whole environment."""
    if command.type == "declaration_command":
        return any("p" in text_of(one) for one in command.children if text_of(one).startswith("-"))
    if command.type != "command":
        return False
    given = words(command)
    at = called_at(given, OF_SHELL)
    said = [base(literal(word)) for word in given[at:]]
    if not said or said[0] not in _OF_ENVIRONMENT:
        return False
    if said[0] == "set":
        return len(said) == 1
    alone = all(word.startswith("-") for word in said[1:])
    return alone or said[0] == "envsubst" or (said[0] == "printenv" and any(word in secret for word in said[1:]))


def _is_substituted(node: Node) -> bool:
    """Whether the output becomes a value, which would have to be followed: `$TOKEN` is the way to name it."""
    parent = node.parent
    while parent is not None and parent.type not in ("command_substitution", "process_substitution"):
        parent = parent.parent
    return parent is not None


def _reaches_argument(node: Node) -> bool:
    child, parent = node, node.parent
    while parent is not None:
        if parent.type == "process_substitution" and not _is_passed_on(parent):
            return False
        if parent.type == "command":
            given = words(parent)
            at = called_at(given, OF_SHELL)
            program = literal(given[at]) if at < len(given) else "exec"
            if program not in BUILTINS:
                if child in given and child.type != "process_substitution":
                    return True
                if base(program) not in _PASS_ON:
                    return False  # what it makes of its input or environment is its own
        child, parent = parent, parent.parent
    return False


def _is_passed_on(substitution: Node) -> bool:
    """Whether it is read by a program whose output holds it."""
    reader = substitution.parent
    if reader is not None and reader.type == "file_redirect":
        reader = next((one for one in reader.parent.children if one.type == "command"), None) if reader.parent else None
    return reader is not None and reader.type == "command"
