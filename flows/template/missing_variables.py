"""What templates that ran before 2026-12 have to say now: each step then had each parameter as `x` and `X`."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

from flows.template.model import PlainStep
from flows.template.reading import ReadTemplate
from flows.template.words import variable_of
from opsdb.kinds.subjects import REFERENCE

LONGEST_BYTES = 1024 * 1024
_READ_BY = {
    "compose": (".env", "compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"),
    "make": ("Makefile", "makefile"),
}
"""What programs read in their folder though no command names it."""


def missing_variables(read: ReadTemplate) -> list[str]:
    """What programs of the template miss, as far as its files show it, each with the line to write."""
    missed = dict(_missed(read))
    lines = [*missed.values(), *(line for name, line in _named_nowhere(read) if name not in {one[0] for one in missed})]
    return [f"{read.path}: {line}" for line in lines]


def _missed(read: ReadTemplate) -> Iterator[tuple[tuple[str, str, str], str]]:
    """By parameter, step and variable."""
    for where, step in read.template.all_steps:
        files = {path: _text(path) for path in _files(read, step)}
        for name, variables in read.variables.items():
            for spelled in (name.upper(), name):
                readers = [path for path, text in files.items() if _reads(text, spelled)]
                if readers and spelled not in variables and spelled not in step.env:
                    reads = f"{readers[0]} reads {spelled}, which the step does not have"
                    yield (name, where, spelled), f"{where}: {reads}: {_line(spelled, name)}"


def _named_nowhere(read: ReadTemplate) -> Iterator[tuple[str, str]]:
    steps = [step for _, step in read.template.all_steps]
    texts = [text for step in steps for text in (step.command, *step.env.values())]
    texts += [one.approval.question for one in read.template.steps if one.approval]
    texts += [_text(path) for step in steps for path in _files(read, step)]
    for name, variables in read.variables.items():
        if not any(f"${{params.{name}}}" in text or any(_reads(text, one) for one in variables) for text in texts):
            yield (
                name,
                f"param {name}: nothing names it, programs have it as {variable_of(name)} alone. A program that reads "
                f"{name.upper()} needs in its step: {_line(name.upper(), name)}",
            )


def _line(variable: str, name: str) -> str:
    return f'env: {{{variable}: "${{params.{name}}}"}}'


def _files(read: ReadTemplate, step: PlainStep) -> list[Path]:
    """The files that a command names, and those in its folder that programs read by themselves."""
    folder = read.folder_of(step)
    words = re.findall(r"[A-Za-z0-9_./+-]+", REFERENCE.sub(" ", step.command))
    names = [*words, *(name for word, names in _READ_BY.items() if word in words for name in names)]
    return [path for path in dict.fromkeys(folder / name for name in names) if _is_readable(path)]


def _is_readable(path: Path) -> bool:
    try:
        about = path.stat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(about.st_mode) and about.st_size <= LONGEST_BYTES


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _reads(text: str, variable: str) -> bool:
    if variable.isupper():
        return re.search(rf"(?<!\w){variable}(?!\w)", text) is not None
    return re.search(rf"\$\{{?{variable}(?!\w)|[\"']{variable}[\"']", text) is not None
