"""A short search of a command's text for places where bash would evaluate a parameter's value, or show a secret.

It looks at text, not at what bash makes of it: whoever writes a template executes commands anyway. What it finds is
refused, with what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from flows.template.shell_text import bodies, closed_at, in_quotes, joined, unquoted, without_documents
from flows.template.words import variable_of
from opsdb.kinds.subjects import REFERENCE

_MARK = "\x01"  # no command holds a control character
_MARKED = f"{_MARK}[^{_MARK}\n]*{_MARK}"
_ADVICE = "let the program read it from its environment, or declare it as an integer"
_ENUM = "give the parameter an `enum`"
_BEGINS = r"(?:^|[\n;&|(`!]|\{\s)[ \t]*"
"""Where a command begins. Behind it may stand some of the next ones."""
_KEYWORDS = r"(?:if|then|elif|else|while|until|do|time|exec|command|builtin|coproc|nohup|setsid|nice|ionice|stdbuf)"
_CALLERS = r"(?:sudo|doas|xargs|trap)"
_DECLARE = r"(?:export|declare|typeset|local|readonly)"
_OPTIONS = (
    r"(?>[ \t]+(?:-[A-Za-z]*[ugICaDdRs][ \t]+\S+|--(?:user|group|chdir|signal)[ \t]+\S+|-[^\s\x01]+|\d\S*)){0,12}"
)
_CHAIN = (
    rf"(?>(?:(?:{_KEYWORDS}|{_CALLERS}|env){_OPTIONS}|timeout{_OPTIONS}[ \t]+\S+|\w+\+?=[^\s\x01]*|\d*[<>]+&?[ \t]*\S+)"
    r"[ \t]+){0,12}"
)
_NAME_TAKERS = r"(?:let|unset|getopts|read|mapfile|readarray|wait)"
"""Builtins that take names of variables."""


class UnsafePlaces:
    """What is looked for: texts named as `${params.x}`, and variables that hold a text.

    `variables` say of each whether its text is one of an `enum`, which the author of the template wrote. `listed` are
    the parameters with an `enum`; `plain` are those whose type leaves nothing to evaluate.
    """

    def __init__(self, *, variables: Mapping[str, bool], listed: Collection[str], plain: Collection[str]) -> None:
        self._listed, self._plain = listed, plain
        names = _any_of(variables)
        free = _any_of([name for name, is_listed in variables.items() if not is_listed])
        self._value = re.compile(rf"{_MARKED}|(?<!\w)(?:{names})(?!\w)")  # a bare name is evaluated, too
        self._indirect = re.compile(rf"\$\{{!(?:{names})(?!\w)|\$\{{(?:{names})@")
        value = rf"(?:{_MARKED}|\$\{{?(?:{free})(?!\w)\}}?)"
        self._first = re.compile(rf"(?:{_BEGINS}{_CHAIN}|(?<![\w./-]){_CALLERS}{_OPTIONS}[ \t]+)'?(?P<value>{value})")
        self._name = re.compile(
            rf"\${_MARKED}|(?<![^\s:=])~{_MARKED}|{_BEGINS}{_CHAIN}\w*{value}\w*\+?="
            rf"|(?:{_BEGINS}|\)[ \t]*){_CHAIN}(?:for|select)[ \t]+{value}"
            rf"|(?<![\w./-])(?:{_CALLERS}|env|{_DECLARE})(?:[ \t][^\n;&|]{{0,300}}?)?[ \t]{value}\w*\+?="
        )

    def evaluated(self, command: str) -> Iterator[str]:
        """Each place where bash would evaluate a value, in words."""
        text = without_documents(self._marked(command, without=self._plain))
        for what, part in [*_parts(text), *_operands(text)]:
            if found := self._value.search(part):
                yield f"{_shown(found[0])} is used {what}: bash would evaluate its value. Hint: {_ADVICE}"
        text = self._marked(command, without=self._plain)
        for found in self._indirect.finditer(text):
            yield f"{found[0]}...}} would use or execute the value as code. Hint: use the variable itself"
        for inner in bodies(text, "${", "{", "}"):
            rest = re.sub(r"^[!#]?(?:\w+|[@*?$#-])", "", inner)
            if found := self._value.search(rest):
                yield f"{_shown(found[0])} is used inside another ${{...}}. Hint: assign it to a variable first"
        for found in re.finditer(rf"(?<![^\s\"'])({_MARKED})[\"']?[<>]", self._marked(command, without=())):
            yield f"{_shown(found[0])} before < or > may name a file descriptor. Hint: write a blank between them"
        text = unquoted(without_documents(self._marked(command, without={*self._plain, *self._listed})))
        text = re.sub(r"\[\[\s.{0,500}?\s\]\]", "'", text)
        text = re.sub(r"`([^`]*)`", r"`\1'", text)  # behind the second one no command begins
        for found in self._first.finditer(text):
            if not _is_pattern(text, found.start("value"), found.end()):
                yield f"{_shown(found['value'])} is used as the name of a command. Hint: write the name, or {_ENUM}"
        for found in self._name.finditer(text):
            yield f"{_shown(found[0])} is used as the name of a variable or user. Hint: write the name, or {_ENUM}"
        for found in re.finditer(rf"\{{[^\s{{}}]*{_MARKED}[^\s{{}}]*\}}", text):
            if "," in found[0]:
                yield f"{_shown(found[0])} is used inside {{...}}, which bash splits at commas. Hint: write the words"

    def _marked(self, command: str, *, without: Collection[str]) -> str:
        text = REFERENCE.sub(lambda match: "1" if match[1] in without else f"{_MARK}{match[1]}{_MARK}", command)
        return joined(text)


def _any_of(names: Collection[str]) -> str:
    return "|".join(sorted(map(re.escape, names), key=len, reverse=True)) or r"(?!)"


def _is_pattern(text: str, start: int, end: int) -> bool:
    """Whether a value at the start of a line is a pattern of `case`."""
    line = text[max(text.rfind("\n", 0, start), text.rfind(";;", 0, start)) + 1 : start]
    return re.match(r"[^\s()]*\)", text[end:]) is not None and line.count("(") <= line.count(")")


def secrets_shown(command: str, secrets: Mapping[str, str]) -> Iterator[str]:
    """Each way in which a command would show a secret; `secrets` are variables, each with its parameter's name."""
    for name in dict.fromkeys(REFERENCE.findall(command)):
        if name in secrets.values():
            yield f"${{params.{name}}} is a secret and cannot be part of a command. {_of_secrets(name)}"
    text = joined(command)
    for found in re.finditer(rf"\$\{{?[#!]?({_any_of(secrets)})(?!\w)", text):
        before = re.search(r"(?<!<)<<<\s*\"?\Z", text[max(0, found.start() - 20) : found.start()])
        if before is None or in_quotes(text, found.start() - len(before[0])):
            yield f"${found[1]} is a secret and can be used directly after <<< only. {_of_secrets(found[1])}"


def _of_secrets(name: str) -> str:
    variable = name if name.isupper() else variable_of(name)
    return (
        "Every user of the host can read the arguments of programs. Hint: let the program read its environment, under "
        f'the name that it knows (`env`), or its input: program <<< "${variable}"'
    )


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """The parts of the text in which bash evaluates names and texts as formulas, each with words for it."""
    bare = unquoted(text)
    for body in [*bodies(text, "$((", "(", ")"), *bodies(bare, "((", "(", ")"), *bodies(text, "$[", "[", "]")]:
        yield "in arithmetic", body
    for found in re.finditer(r"(?<=[\w}])\[|(?<=[\s(])\[(?=[^]\s]*\]\+?=)", bare):
        yield "as an index", bare[found.end() : closed_at(bare, found.end(), "[", "]")]
    for found in re.finditer(r"\s-(?:eq|ne|lt|le|gt|ge)\s", text):
        if part := _compared(text, found.start(), found.end()):
            yield "in a comparison of numbers", part
    integers: list[str] = []
    for found in re.finditer(rf"(?<![\w./-]){_DECLARE}((?:[ \t]+[-+]\w+)+)[ \t]([^\n;&|]*)", text):
        if re.search("[in]", found[1]):
            yield "in a declaration of integers or references", found[2]
            integers += re.findall(r"(?<!\S)(\w+)", found[2])
    for name in integers:
        for found in re.finditer(rf"(?<![\w$]){name}\+?=(\"[^\"\n]*\"|\S*)", text):
            yield f"as the value of {name}, an integer or reference", found[1]
    for found in re.finditer(
        r"(?:\[\[?|&&|\|\||(?:^|[\n;&|(!]|if|while|until)[ \t]*test)\s+(?:!\s+)?-[vR]\s+(\S*)", text
    ):
        yield "after -v", found[1]


def _compared(text: str, start: int, end: int) -> str:
    """What stands beside an operator of numbers in a test; empty when it stands in none, as in `ls -lt`."""
    line = text[max(text.rfind("\n", 0, start), start - 500) + 1 : start]
    opened = max(line.rfind("[[ "), line.rfind("[ "), line.rfind("test "))
    if opened < 0 or re.search(r"\s\]", line[opened + 2 :]):
        return ""
    separators = r"\n|&&|\|\||[()]|;\s|\s\]|\s-[ao]\s"
    left = re.split(separators, line[opened:])[-1]
    right = re.split(separators, text[end : end + 500], maxsplit=1)[0]
    return f"{left} {right}"


def _operands(text: str) -> Iterator[tuple[str, str]]:
    """What these builtins are given, each with words for it; what is quoted is taken whole."""
    quoted = r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\."
    begins = rf"(?:{_BEGINS}|\)[ \t]+|(?<=[\"'])){_CHAIN}\\?"
    for name, operand in {
        rf"(?P<name>{_NAME_TAKERS})": rf"(?:{quoted}|[^;&|\n<])*",
        r"(?P<name>eval)": rf"(?:{quoted}|[^\n])*",
        r"(?P<name>printf[ \t]+-v)[ \t]*": rf"(?:{quoted}|[^;&|\s])*",
    }.items():
        for found in re.finditer(rf"{begins}{name}(?=[\s'\"$\x01])[ \t]*({operand})", text, re.DOTALL):
            yield f"after `{found['name']}`", found[found.lastindex or 0]


def _shown(found: str) -> str:
    """A parameter or variable as its author wrote it."""
    marked = re.search(f"{_MARK}([^{_MARK}]*){_MARK}", found)
    return f"${{params.{marked[1]}}}" if marked else found.strip()
