"""A short search of a command's text for places where bash would evaluate a parameter's value, or show a secret.

It looks at text, not at what bash makes of it: whoever writes a template executes commands anyway. What it finds is
refused, with what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from flows.template_command import REFERENCE
from flows.template_values import variable_of

_MARK = "\x01"  # no command holds a control character
_ADVICE = "let the program read it from its environment, or declare it as an integer"
_ENUM = "give the parameter an `enum`"
_BEGINS = r"(?:^|[\n;&|(`!]|\{\s)\s*"
"""Where a command begins. Behind it may stand some of the next two."""
_KEYWORDS = r"(?:if|then|elif|else|while|until|do|time|exec|command|builtin|nohup|setsid|nice|ionice|stdbuf|timeout)"
_CALLERS = r"(?:sudo|doas|env|xargs|trap)"
_DECLARE = r"(?:export|declare|typeset|local|readonly)"
_OPTIONS = r"(?>\s+(?:-[ugIC]\s+\S+|--?[\w=-]+|\d\S*)){0,12}"
_CHAIN = rf"(?:(?:{_KEYWORDS}|{_CALLERS}){_OPTIONS}\s+|\w+=\S*\s+){{0,12}}"


class Places:
    """What is looked for: texts named as `${params.x}`, and variables that hold a text.

    `variables` say of each whether its text is one of an `enum`, which the author of the template wrote. `listed` are
    the parameters with an `enum`; `plain` are those whose type leaves nothing to evaluate.
    """

    def __init__(self, *, variables: Mapping[str, bool], listed: Collection[str], plain: Collection[str]) -> None:
        self._listed, self._plain = listed, plain
        marked = f"{_MARK}[^{_MARK}\n]*{_MARK}"
        names = _any_of(variables)
        free = _any_of([name for name, is_listed in variables.items() if not is_listed])
        self._value = re.compile(rf"{marked}|(?<!\w)(?:{names})(?!\w)")  # a bare name is evaluated, too
        self._indirect = re.compile(rf"\$\{{!(?:{names})(?!\w)|\$\{{(?:{names})@")
        variable = rf"\$\{{?(?:{free})(?!\w)"  # which may well come after a `|` in a quoted text
        called = rf"(?<![\w./-]){_CALLERS}{_OPTIONS}\s+"
        self._first = re.compile(
            rf"(?:{_BEGINS}{_CHAIN}|{called})[\"']?(?P<text>{marked})"
            rf"|(?:(?:^|\n|\$\(|`|[;&|!]\s)\s*{_CHAIN}|{called})[\"']?(?P<name>{variable})"
        )
        self._names_something = re.compile(
            rf"[$~]{marked}|{_BEGINS}{_CHAIN}{marked}\w*\+?="
            rf"|(?<![\w./-])(?:{_CALLERS}|{_DECLARE})\s[^\n;&|]*?(?<!\S)[\"']?{marked}\w*\+?="
        )

    def evaluated(self, command: str) -> Iterator[str]:
        """Each place where bash would evaluate a value, in words."""
        text = self._marked(command, without=self._plain)
        for what, part in [*_parts(text), *_operands(text)]:
            if found := self._value.search(part):
                yield f"{_shown(found[0])} is used {what}: bash would evaluate its value. Hint: {_ADVICE}"
        for found in self._indirect.finditer(text):
            yield f"{found[0]}...}} would use or execute the value as code. Hint: use the variable itself"
        for inner in _bodies(text, "${", "{", "}"):
            rest = re.sub(r"^[!#]?(?:\w+|[@*?$#-])", "", inner)
            if found := self._value.search(rest):
                yield f"{_shown(found[0])} is used inside another ${{...}}. Hint: assign it to a variable first"
        text = self._marked(command, without={*self._plain, *self._listed})
        for found in self._first.finditer(_without_printed_documents(text)):
            begun = text[max(found.start() - 1, 0) : found.end()]
            if not re.search(r"(?<!\$)\(\s*[\"']", begun):  # a list in SQL, or the like
                used = _shown(found["text"] or found["name"])
                yield f"{used} is used as the name of a command. Hint: write the name, or {_ENUM}"
        for found in self._names_something.finditer(text):
            yield f"{_shown(found[0])} is used as the name of a variable or user. Hint: write the name, or {_ENUM}"

    def _marked(self, command: str, *, without: Collection[str]) -> str:
        joined = command.replace("\\\n", " ")
        return REFERENCE.sub(lambda match: "1" if match[1] in without else f"{_MARK}{match[1]}{_MARK}", joined)


def _any_of(names: Collection[str]) -> str:
    return "|".join(sorted(map(re.escape, names), key=len, reverse=True)) or r"(?!)"


def secrets_shown(command: str, secrets: Mapping[str, str]) -> Iterator[str]:
    """Each way in which a command would show a secret; `secrets` are variables, each with its parameter's name."""
    for name in dict.fromkeys(REFERENCE.findall(command)):
        if name in secrets.values():
            yield f"${{params.{name}}} is a secret and cannot be part of a command. {_of_secrets(name)}"
    for found in re.finditer(rf"\$\{{?[#!]?({_any_of(secrets)})(?!\w)", command):
        if not re.search(r"(?<!<)<<<\s*\"?\Z", command[: found.start()]):
            yield f"${found[1]} is a secret and can be used directly after <<< only. {_of_secrets(found[1])}"


def _of_secrets(name: str) -> str:
    variable = name if name.isupper() else variable_of(name)
    return (
        "Every user of the host can read the arguments of programs. Hint: let the program read its environment, under "
        f'the name that it knows (`env`), or its input: program <<< "${variable}"'
    )


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """The parts of the text in which bash evaluates names and texts as formulas, each with words for it."""
    for body in _bodies(text, "((", "(", ")"):
        yield "in arithmetic", body
    for body in _bodies(text, "$[", "[", "]"):
        yield "in arithmetic", body
    for found in re.finditer(r"(?<=[\w}])\[|(?<=[\s(])\[(?=[^]\s]*\]\+?=)", text):
        yield "as an index", _until_closed(text, found.end(), "[", "]")
    for found in re.finditer(r"\s-(?:eq|ne|lt|le|gt|ge)\s", text):
        left = re.search(r"[^\n;&|()]*\Z", text[: found.start()])
        right = re.match(r"[^\n;&|()]*", text[found.end() :])
        yield "in a comparison of numbers", f"{left[0] if left else ''} {right[0] if right else ''}"
    integers = []
    for found in re.finditer(rf"(?<![\w-]){_DECLARE}\s+[-+]\w*[in]\w*\s([^\n;&|]*)", text):
        yield "in a declaration of integers or references", found[1]
        integers += re.findall(r"(?<!\S)(\w+)", found[1])
    for name in integers:
        for found in re.finditer(rf"(?<![\w$]){name}\+?=(\S*)", text):
            yield f"as the value of {name}, an integer or reference", found[1]
    for found in re.finditer(r"(?<![\w-])(?:test|\[\[?)\s[^\n;&|]*?-[vR]\s+(\S*)", text):
        yield "after -v", found[1]


_NAME_TAKERS = {"let": "", "unset": "", "getopts": "", "read": "<", "mapfile": "<", "readarray": "<"}
"""Builtins that take names of variables, and what else ends their operands."""


def _operands(text: str) -> Iterator[tuple[str, str]]:
    """What these builtins are given, each with words for it; what is quoted is taken whole."""
    builtins = {rf"{_BEGINS}{_CHAIN}{name}": ends for name, ends in _NAME_TAKERS.items()}
    for name, ends in {**builtins, r"(?<![\w./-])eval": "", r"(?<![\w./-])printf\s+-v": ""}.items():
        operands = re.compile(rf"(?:\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"|[^;&|\n{ends}])*", re.DOTALL)
        for found in re.finditer(rf"{name}(?=[\s'\"])", text):
            match = operands.match(text, found.end())
            yield f"after `{found[0].split()[-1].lstrip('(;&|!`')}`", match[0] if match else ""


def _bodies(text: str, begins: str, opening: str, closing: str) -> Iterator[str]:
    """What stands in each pair of brackets that begins so."""
    for found in re.finditer(re.escape(begins), text):
        yield _until_closed(text, found.end(), opening, closing)


def _until_closed(text: str, start: int, opening: str, closing: str) -> str:
    depth = 1
    for at in range(start, len(text)):
        depth += (text[at] == opening) - (text[at] == closing)
        if depth == 0:
            return text[start:at]
    return text[start:]


def _without_printed_documents(text: str) -> str:
    """The text without the here-documents that `cat` or `tee` writes: their lines are no commands."""
    return re.sub(
        r"((?:cat|tee)\b[^\n]*<<-?\s*['\"]?(\w+)['\"]?[^\n]*\n).*?^\t*\2$", r"\1", text, flags=re.MULTILINE | re.DOTALL
    )


def _shown(found: str) -> str:
    """A parameter or variable as its author wrote it."""
    marked = re.search(f"{_MARK}([^{_MARK}]*){_MARK}", found)
    return f"${{params.{marked[1]}}}" if marked else found.strip()
