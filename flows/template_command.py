"""A command of a template as the shell gets it: parameters are references to variables, each quoted where it stands."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from tree_sitter import Node

from flows.bash_evaluation import Evaluation, arithmetic_names, evaluation
from flows.bash_programs import programs, text_to_execute
from flows.bash_refusals import refused
from flows.bash_secrets import shown
from flows.bash_taint import names_any, reads, spread
from flows.bash_tree import parse, read_unguarded, set_here, text_of, variable, walk
from flows.template_names import PREFIX

REFERENCE = re.compile(r"\$\{params\.([^}\n]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class CommandError(ValueError):
    """The command cannot be made safe: says where, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Wants:
    """What a command wants to be there: names of parameters, of variables, of programs."""

    parameters: tuple[str, ...]
    variables: tuple[str, ...]
    programs: tuple[str, ...]


def references(text: str) -> list[str]:
    """The parameters that a text names as `${params.x}`. Raises CommandError for one that cannot be a name."""
    found = list(dict.fromkeys(REFERENCE.findall(text)))
    for name in found:
        if not _NAME.match(name):
            raise CommandError(f"${{params.{name}}}: {name!r} cannot be the name of a parameter")
    return found


def wants(command: str) -> Wants:
    """What a command names. Raises CommandError."""
    named = references(command)
    root = parse(_with_variables(command))
    read = [name for name in read_unguarded(root) if not name.startswith(PREFIX)]
    here = set_here(root)
    return Wants(tuple(named), tuple(name for name in read if name not in here), tuple(programs(root)))


def check_syntax(command: str) -> None:
    """Raises CommandError for what bash itself cannot read."""
    bash = shutil.which("bash")
    if bash is None:
        raise CommandError("there is no bash on the PATH that could read it")
    done = subprocess.run(
        [bash, "--norc", "-n", "-c", "--", _with_variables(command)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=10,
        check=False,
    )
    if done.returncode:
        said = re.sub(r"^\S*bash: -c: ", "", done.stderr, flags=re.MULTILINE)  # it begins with how bash was called
        raise CommandError("bash cannot read it: " + " ".join(said.split())[:300])


def compiled(command: str, *, tainted: Mapping[str, bool], secret: Collection[str] = ()) -> str:
    """The command with each `${params.x}` and each tainted variable quoted, so that bash takes its value as it is.

    `tainted` are the variables with a value from outside; True for one that holds a number. Those that are `secret`
    are among them. Raises CommandError where a value would be evaluated once more, or a secret shown.
    """
    text = _with_variables(command)
    root = parse(text)
    for name in shown(root, secret):
        raise CommandError(
            f"{name} is secret, and stands in an argument of a program, which everybody on the host can read: let the "
            f'program read its environment, or its input: program <<< "${name}"'
        )
    named = names_any(root, tainted)
    formulas = spread(root, tainted, by_name=True)
    tainted = spread(root, tainted)
    concerned = [node for node in walk(root) if reads(node, tainted)]
    hidden = list(_hidden_in_quotes(root))
    overlooked = any(True for _ in _overlooked(root, tainted))
    if overlooked or (root.has_error and (concerned or hidden or named)):
        raise CommandError("its shell text cannot be followed, so parameters cannot be made safe in it: " + _ADVICE)
    for leaf in arithmetic_names(root):
        if formulas.get(text_of(leaf)) is False:
            raise _refusal(text_of(leaf), Evaluation("in arithmetic, which bash evaluates", arithmetic=True))
    edits: list[tuple[int, int, str]] = []
    for node in concerned:
        edits += _quoted(node, tainted)
    data = text.encode()
    edits += [(start, end, _out_of_quotes(node, reference)) for node, start, end, reference in hidden]
    for construct in refused(root) if named else ():
        raise CommandError(f"a command that names a parameter cannot hold {construct}")
    for node in walk(root) if named else ():
        inner = text_to_execute(node) if node.type == "command" else None
        if inner and compiled(inner, tainted=tainted, secret=secret) != inner:
            raise CommandError(f"a variable in {inner!r} stands without quotes: put double quotes around it")
    for start, end, new in sorted(edits, reverse=True):
        data = data[:start] + new.encode() + data[end:]
    return data.decode()


_ADVICE = "give it to the step as `env`, and read that variable in the program"


def _with_variables(command: str) -> str:
    return REFERENCE.sub(lambda match: f"${{{PREFIX}{match[1]}}}", command)


def _quoted(node: Node, tainted: Mapping[str, bool]) -> Iterator[tuple[int, int, str]]:
    name = variable(node) or ""
    if any(child.type == "!" for child in node.children):
        raise _refusal(name, Evaluation("in ${!...}, where bash takes it for the name of a variable"))
    found = evaluation(node)
    if found is not None and not (found.arithmetic and tainted[name]):
        raise _refusal(name, found)
    if found is None and not _in_quotes(node):
        yield node.start_byte, node.start_byte, '"'
        yield node.end_byte, node.end_byte, '"'


def _in_quotes(node: Node) -> bool:
    parent = node.parent
    while parent is not None and parent.type not in ("command_substitution", "process_substitution"):
        if parent.type in ("string", "heredoc_body"):
            return True
        parent = parent.parent
    return False


def _hidden_in_quotes(root: Node) -> Iterator[tuple[Node, int, int, str]]:
    """The references that bash would leave alone where they stand: node, from, to, variable."""
    text = root.text or b""
    pattern = re.compile(rb"\$\{" + PREFIX.encode() + rb"([A-Za-z0-9_]+)\}")
    for match in pattern.finditer(text):
        node = root.descendant_for_byte_range(match.start(), match.end())
        if node is not None and node.type not in ("expansion", "simple_expansion", "comment"):
            yield node, match.start(), match.end(), PREFIX + match[1].decode()


def _overlooked(root: Node, tainted: Mapping[str, bool]) -> Iterator[str]:
    """What looks like a tainted variable, and that the tree neither knows as one nor as text that stays text."""
    text = root.text or b""
    for match in re.finditer(rb"\$\{?[#!]?([A-Za-z_][A-Za-z0-9_]*|[@*1-9])", text):
        name = match[1].decode()
        before = text[: match.start()]
        escaped = (len(before) - len(before.rstrip(b"\\"))) % 2 == 1
        if name not in tainted or escaped:
            continue
        node = root.descendant_for_byte_range(match.start(), match.end())
        while node is not None and node.start_byte >= match.start() and not reads(node, tainted):
            node = node.parent
        if node is None or not (reads(node, tainted) or node.type in _STAYS_TEXT or _is_quoted_document(node)):
            yield name


_STAYS_TEXT = ("raw_string", "comment", "ansi_c_string")


def _is_quoted_document(node: Node) -> bool:
    """Whether this is a here-document in which the shell expands nothing."""
    start = node.parent.children[1:2] if node.parent is not None else []
    return node.type == "heredoc_body" and any(not text_of(one).isidentifier() for one in start)


def _out_of_quotes(node: Node, name: str) -> str:
    if node.type == "heredoc_body":
        raise _refusal(name, Evaluation("in a here-document with a quoted mark, where the shell expands nothing"))
    if node.type != "raw_string":
        raise _refusal(name, Evaluation("where the shell does not expand it: behind a backslash, or in $'...'"))
    found = evaluation(node)
    if found is not None:
        raise _refusal(name, found)
    return f"'\"${{{name}}}\"'"


def _refusal(name: str, found: Evaluation) -> CommandError:
    shown = f"${{params.{name.removeprefix(PREFIX)}}}" if name.startswith(PREFIX) else name
    advice = "declare it as an integer, or compare it with [ ... -gt ... ]" if found.arithmetic else _ADVICE
    return CommandError(f"{shown} stands {found.reason}: {advice}")
