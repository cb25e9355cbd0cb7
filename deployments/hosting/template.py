"""A template: the values that it takes, the files that come of it, and the programs that judge those."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import jinja2

from deployments.hosting.values import Values
from opsdb.errors import UsageError
from opsdb.private_files import replace_private

FOLDER = Path(__file__).parent / "templates"


class Outcome(StrEnum):
    """What a program said of a file."""

    PASSED = "passed"
    REFUSED = "refused"
    ABSENT = "not checked"


@dataclass(frozen=True)
class Verdict:
    """What a program said of the rendered files. `said` is its output, or why it could not be asked."""

    program: str
    outcome: Outcome
    said: str = ""


Files = Mapping[str, str]
"""The text of each rendered file, by its name."""
Check = Callable[[Files], Verdict]


@dataclass(frozen=True)
class Template:
    """What `ops render NAME` makes. `files` has the name of each file that is rendered, and its Jinja2 template."""

    name: str
    about: str
    values: type[Values]
    files: Mapping[str, str]
    checks: tuple[Check, ...]


def marker(name: str) -> str:
    """The words in the first or second line of every rendered file; a file with them may be overwritten."""
    return f"Rendered by `ops render {name}`"


def render(template: Template, values: Values) -> dict[str, str]:
    """The text of each file of the template. Raises jinja2.UndefinedError where a template names an unknown value."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # these are not pages: values.py lets nothing in that would need an escape
    )
    head = f"{marker(template.name)}: change its values, not this file."
    return {
        name: environment.get_template(source).render(values=values, head=head)
        for name, source in template.files.items()
    }


def check_folder(folder: Path) -> None:
    """Raise UsageError if the folder to write to does not exist."""
    if not folder.is_dir():
        raise UsageError(f"--out: there is no folder {folder.absolute()}: make it first")


def write_rendered(template: Template, files: Files, folder: Path) -> list[Path]:
    """Write the files into a folder, each whole or not at all. Returns their paths.

    Raises UsageError for a missing folder, and for a file that no template made: that is somebody's own.
    """
    check_folder(folder)
    paths = [folder / name for name in files]
    for path in paths:
        if path.is_symlink() or (path.exists() and marker(template.name) not in _first_line(path)):
            raise UsageError(
                f"--out: {path} was not rendered by `ops render {template.name}`. "
                "Hint: move it away, or name another folder"
            )
    for path, text in zip(paths, files.values(), strict=True):
        try:
            replace_private(path, text, mode=0o755 if text.startswith("#!") else 0o644)
        except OSError as error:
            raise UsageError(f"--out: {path} cannot be written: {error.strerror}") from None
    return paths


def _first_line(path: Path) -> str:
    try:
        with path.open(errors="replace") as file:
            return "".join(file.readlines(400)[:2])
    except OSError as error:
        raise UsageError(f"--out: {path} cannot be read: {error.strerror}") from None
