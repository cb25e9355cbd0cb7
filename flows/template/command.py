"""The text of a template's command: the parameters and programs that it names, and what it says with their values."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping

from flows.template.shell_text import closed_at, joined, without_documents
from flows.template.words import SHELL_OWN, inherited, may_be_parameter, obeyed, variable_of
from opsdb.kinds.subjects import REFERENCE

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_QUIET = r"\\.|'[^']*'|(?<!\S)#[^\n]*"  # what bash leaves as it is; in double quotes an apostrophe is one
_IN_BRACES = re.compile(rf'"(?:\\.|[^"\\])*"|{_QUIET}|\$\{{[A-Za-z_][A-Za-z0-9_]*\}}', re.DOTALL)
_PLAIN = re.compile(r"(?<!\\)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SETTERS = r"for|select|read|mapfile|readarray|getopts|local|declare|typeset|export|readonly|printf\s+-v|wait|let"
_OF_HOSTS = frozenset({"TERM", "SUDO_USER", "DEBIAN_FRONTEND", "COLUMNS", "LINES"})
"""Variables that hosts and programs set, and nobody means as a parameter."""

# What is not a program at the start of a command: with the words behind the first group the command continues.
_GO_ON = frozenset(re.split(" ", "if then elif else while until do ! { time"))
_NO_PROGRAM = frozenset(
    re.split(
        " ",
        ". : [ [[ alias bg bind break builtin caller case cd command compgen complete continue coproc declare dirs "
        "disown done echo enable esac eval exec exit export false fc fg fi for function getopts hash help history in "
        "jobs kill let local logout mapfile popd printf pushd pwd read readarray readonly return select set shift "
        "shopt source suspend test times trap true type typeset ulimit umask unalias unset wait }",
    )
)


class CommandError(ValueError):
    """The command cannot be: says why, and what to write instead."""


def references(text: str) -> list[str]:
    """The parameters that a text names as `${params.x}`. Raises CommandError for one that cannot be a name."""
    found = list(dict.fromkeys(REFERENCE.findall(text)))
    for name in found:
        if not _NAME.match(name):
            raise CommandError(f"${{params.{name}}}: {name!r} cannot be the name of a parameter")
    return found


def filled_in(text: str, values: Mapping[str, str]) -> str:
    """The text with each `${params.x}` replaced by its value."""
    return REFERENCE.sub(lambda match: values[match[1]], text)


def check_syntax(command: str) -> None:
    """Raises CommandError for what bash itself cannot read."""
    bash = shutil.which("bash")
    if bash is None:
        raise CommandError("there is no bash on the PATH that could read it")
    options = ["-O", "extglob"] if "extglob" in command else []  # a line of its own turns it on before the next is read
    try:
        done = subprocess.run(
            [bash, "--norc", *options, "-n"],
            input=REFERENCE.sub("1", command),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CommandError("bash did not finish reading it in 10 s") from None
    if done.returncode:
        said = re.sub(r"^\S*bash: ", "", done.stderr, flags=re.MULTILINE)  # it begins with how bash was called
        raise CommandError("bash cannot read it: " + " ".join(said.split())[:300])


def unset_variables(command: str, *, own: Collection[str]) -> list[str]:
    """Each `${NAME}` that may be a parameter: not set by the step (`own`), nor by the command, nor by the shell.

    A command that reads another file into its shell (`. file`) may have them from there: it names none.
    """
    text = without_documents(REFERENCE.sub("1", joined(command)), quoted_only=True)
    if re.search(r"(?:^|[\n;&|])[ \t]*(?:\.|source)[ \t]", text):
        return []
    expanded = "".join(part for part in _IN_BRACES.findall(text) if part[0] not in "\\'#")
    found = dict.fromkeys(_PLAIN.findall(expanded))
    return [
        name
        for name in found
        if not (name in own or inherited(name) or SHELL_OWN.match(name) or name in _OF_HOSTS or _sets(text, name))
        and may_be_parameter(name)
    ]


def _sets(text: str, name: str) -> bool:
    return bool(
        re.search(
            rf"(?<![\w$]){name}(\[[^]]*\])?\s*\+?=|(?<![\w-])(?:{_SETTERS})\s[^\n;|&]*(?<![\w$]){name}\b"
            rf"|\{{{name}\}}[<>]|\$\{{{name}:?=",
            text,
        )
    )


def spellings(name: str, commands: Collection[str]) -> list[str]:
    """The variables by which every step has a parameter: PARAM_NAME, and those that the template's own text uses."""
    text = "\n".join(REFERENCE.sub("", command) for command in commands)
    used = [
        spelled
        for spelled, pattern in ((name, rf"\$\{{?[#!]?{name}\b"), (name.upper(), rf"\b{name.upper()}\b"))
        if not obeyed(spelled) and not inherited(spelled) and re.search(pattern, text)
    ]
    return list(dict.fromkeys([variable_of(name), *used]))


def programs(command: str) -> list[str]:
    """The programs that are seen to be called: a program that is not installed is named before the first step.

    First words of the simple commands that stand in no quotes, up to the first text that is hard to read: `case`, and
    quotes within quotes. What is overlooked fails in its step.
    """
    text = joined(REFERENCE.sub("$1", command))
    functions = set(re.findall(r"(?<![\w-])([\w-]+)\s*\(\)", text)) | set(re.findall(r"\bfunction\s+([\w-]+)", text))
    asked_for = set(re.findall(r"\b(?:command\s+-[vV]|type|which|hash)\s+([\w.+-]+)", text))
    found = dict.fromkeys(_first_words(text))
    return [name for name in found if name not in functions and name not in asked_for]


def _first_words(text: str) -> Iterator[str]:
    for part in _simple_commands(text):
        words = part.split()
        while words and (words[0] in _GO_ON or re.match(r"\w+\+?=", words[0])):
            words.pop(0)
        if words and words[0] == "case":
            return
        if words and words[0] == "sudo" and len(words) > 1:
            yield words.pop(0)
        if words and words[0] not in _NO_PROGRAM and re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./+-]*", words[0]):
            yield words[0]


def _simple_commands(text: str) -> Iterator[str]:
    """The simple commands, also those in `$(...)`. What is quoted, tested or calculated is a single `'` in them."""
    documents: list[str] = []
    around: list[str | None] = []  # what a substitution stands in; None for a subshell
    part, at = "", 0
    while at < len(text):
        match = _PIECE.match(text, at)
        if match is None:
            part, at = part + text[at], at + 1
            continue
        at = match.end()
        piece = match[0]
        if piece[0] == '"' and piece.count("$(") > piece.count(")"):
            return  # quotes within quotes
        if match["document"]:
            documents.append(match["document"])
        elif match["bracket"]:
            opening = piece[-1]
            at = closed_at(text, at, opening, ")" if opening == "(" else "}") + 1
            part += "array=" if piece.endswith("=(") else "'"
        elif piece == "$(":
            around.append(part)
            part = ""
        elif piece == ")":
            yield part
            part = (around.pop() if around else None) or ""
            part += "'" if part else ""
        elif piece in ("\n", ";", "(", "&", "|", "`"):
            yield part
            part = ""
            around += [None] if piece == "(" else []
        elif piece[0] != "#":
            part += "'"
        while piece == "\n" and documents:
            end = re.compile(rf"^\t*{re.escape(documents.pop(0))}$", re.MULTILINE).search(text, at)
            at = end.end() if end else len(text)
    yield part


_PIECE = re.compile(
    r"""\\.|'[^']*'|"(?:\\.|[^"\\])*"|(?<!\S)\#[^\n]*|(?<!<)<<-?\s*(?!<)['"\\]?(?P<document>\w+)['"]?"""
    r"""|(?P<bracket>\$?\(\(|\$\{|(?<!\w)\w+\+?=\()|\[\[\s.{0,500}?\s\]\]|\$\(|[\n;()`]|(?<![<>])&(?!>)|\|""",
    re.DOTALL,
)
