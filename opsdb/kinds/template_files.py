"""The files that may hold templates, and what can be said of them without understanding them."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from opsdb.errors import UsageError
from opsdb.settings import Settings
from opsdb.shown import QUOTE

SUFFIXES = (".json", ".yaml", ".yml")
LONGEST_BYTES = 1024 * 1024
_IN_WORDS = {type(None): "empty", list: "a list", str: "text"}
KIND = r"^[a-z][a-z0-9_]{0,62}$"
PACKAGE = "flows.templates"
"""The module whose attributes are the runbooks of templates: an entrypoint is this, a dot and the kind."""
OWN_FOLDER = Path(__file__).parents[2] / "flows" / "templates"


def problems_of(error: TemplateError) -> list[str]:
    """What is wrong with a template, one by one."""
    return [line.removeprefix(QUOTE) for line in str(error).split("\n")]


class TemplateError(UsageError):
    """A template is not as it has to be: one line for each error, with file, step and field."""


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """A file that may hold a template. `kind` is None when it is not even readable: `error` says why."""

    path: Path
    kind: str | None
    error: str | None


def template_files(settings: Settings) -> list[TemplateFile]:
    """Every file in the folders that by its name holds a template, in order."""
    return [_read_file(path) for folder in template_folders(settings) for path in _paths(folder)]


def template_folders(settings: Settings) -> list[Path]:
    """The room's own folder, and that of OPS_TEMPLATES when it is set."""
    own = [OWN_FOLDER]
    return own if settings.templates in (None, OWN_FOLDER) else [*own, settings.templates]


def read_content(path: Path) -> dict[str, Any]:
    """What the file says, as JSON or YAML. Raises TemplateError in one line that names the file."""
    if path.suffix not in SUFFIXES:
        raise TemplateError(f"{path}: a template's name ends in {', '.join(SUFFIXES)}")
    try:
        text = _read_text(path)
        content = json.loads(text, object_pairs_hook=_each_once) if path.suffix == ".json" else _read_yaml(text)
        json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
    except TemplateError:
        raise
    except OSError as error:
        raise TemplateError(f"{path}: {error.strerror}") from None
    except Exception as error:  # PyYAML answers odd tags with errors of all sorts, and no file may stop the others
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TemplateError(f"{path}: cannot be read as {path.suffix[1:].upper()}: {reason}") from None
    if not isinstance(content, dict):
        found = _IN_WORDS.get(type(content), "a single value")
        raise TemplateError(f"{path}: expected an object with `kind` and `steps`, this is {found}")
    return content


def _read_text(path: Path) -> str:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise TemplateError(f"{path}: is not a regular file")  # a named pipe would be waited for without end
    if about.st_size > LONGEST_BYTES:
        raise TemplateError(f"{path}: is larger than {LONGEST_BYTES:,} bytes: that is too large for a template")
    text = path.read_text(encoding="utf-8")
    if text.startswith("\ufeff"):
        raise TemplateError(f"{path}: begins with a byte order mark: save it as UTF-8 without one")
    return text


def _read_file(path: Path) -> TemplateFile:
    try:
        about = path.stat()
    except OSError as error:
        return TemplateFile(path, None, f"{path}: {error.strerror}")
    return _read_kind(path, (about.st_ino, about.st_mtime_ns, about.st_size))


@lru_cache(maxsize=1024)
def _read_kind(path: Path, _version: tuple[int, int, int]) -> TemplateFile:
    """Read once for each version of the file: a worker asks before each run."""
    try:
        kind = read_content(path).get("kind")
    except TemplateError as error:
        return TemplateFile(path, None, str(error))
    if not isinstance(kind, str) or not kind:
        return TemplateFile(path, None, f"{path}: kind: is missing: the name under which the runbook is started")
    if not re.fullmatch(KIND, kind):
        return TemplateFile(
            path, None, f"{path}: kind: {kind!r}: expected lower-case letters, digits and _, a letter first"
        )
    return TemplateFile(path, kind, None)


def _paths(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.name[0] != ".")
    except OSError:  # a missing folder holds no templates; `ops template list` shows which are looked at
        return


def _each_once(pairs: list[tuple[Hashable, Any]]) -> dict[Hashable, Any]:
    found: dict[Hashable, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} appears twice: one of them would be ignored")
        found[key] = value
    return found


class _Loader(yaml.SafeLoader):
    """YAML whose mappings hold each key once, and without aliases: a few lines of those stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="a template has no aliases: write out what `*` stands for",
                problem_mark=self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        return super().compose_node(parent, index)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    return _each_once(
        [(loader.construct_object(k, deep=True), loader.construct_object(v, deep=True)) for k, v in node.value]
    )


def _no_date(_loader: _Loader, node: yaml.ScalarNode) -> None:
    raise yaml.MarkedYAMLError(
        problem=f"{node.value} is a date to YAML: put quotes around it", problem_mark=node.start_mark
    )


def _decimal(loader: _Loader, node: yaml.ScalarNode) -> int:
    """YAML 1.1 takes 0755 for 493, and 1:30 for 90."""
    if not re.fullmatch(r"[-+]?(0|[1-9][0-9]*)", node.value):
        raise yaml.MarkedYAMLError(
            problem=f"{node.value!r} is not a decimal number: write one, or put quotes around a text",
            problem_mark=node.start_mark,
        )
    return int(loader.construct_yaml_int(node))


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    """YAML 1.1 takes 1:30.5 for 90.5, and 1_0.5 for 10.5."""
    if ":" in node.value or "_" in node.value:
        raise yaml.MarkedYAMLError(
            problem=f"{node.value!r} is not a decimal number: write one, or put quotes around a text",
            problem_mark=node.start_mark,
        )
    return float(loader.construct_yaml_float(node))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _no_date)
_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def _read_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
