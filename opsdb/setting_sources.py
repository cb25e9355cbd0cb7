"""Settings out of the environment and the settings files, with where each value comes from, and back again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from opsdb.errors import UsageError
from opsdb.near_names import near_name
from opsdb.refusals import refusal
from opsdb.setting_types import WORDS, expanded, is_import_name
from opsdb.settings_file import SettingsFile, find_files

T = TypeVar("T", bound=BaseModel)

SETTLED = "OPS_SETTLED"
"""Set for the processes of a room: their environment says all, and what is written to a file later counts not yet."""
_HIDDEN = re.compile(r"://[^/\s]*@")  # a password may stand there


@dataclass(frozen=True)
class Source:
    """Where a value comes from: a variable of the environment, a line of a file, or nowhere, then it is the default.

    `old_name` is the name under which it was found, where that is one that a setting had before.
    """

    variable: str | None = None
    file: Path | None = None
    line: int | None = None
    old_name: str | None = None

    @property
    def kind(self) -> Literal["environment", "file", "default"]:
        """Which of the three it is."""
        return "file" if self.file else "environment" if self.variable else "default"

    def __str__(self) -> str:
        if self.file:
            return f"{self.file}, line {self.line}" if self.line else str(self.file)
        return f"{self.variable} in the environment" if self.variable else "default"


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """Settings, and the source of each by its name."""

    settings: T
    sources: Mapping[str, Source]

    def warnings(self) -> Iterator[str]:
        """A line for each setting that was found under an old name."""
        for name, source in self.sources.items():
            if source.old_name:
                new = name if source.file else variable(name)
                yield f"{source}: {source.old_name} has become {new}; write that, the old name will go"


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"OPS_{name.upper()}"


def is_secret(field: FieldInfo) -> bool:
    """Whether the value of a setting is not to be shown."""
    return SecretStr in _types(field.annotation)


def _types(annotation: Any) -> set[Any]:
    """What a type is made of, `Annotated` and `|` included."""
    return {annotation}.union(*(_types(part) for part in get_args(annotation)))


def load(model: type[T], *, renamed: Mapping[str, str], own: SettingsFile | None = None) -> Loaded[T]:
    """Read the settings: the environment first, then the files. `renamed` has the new name of each old one.

    `own` is a file that is yet to be written into a room without one; it counts as if it stood there.

    Raises UsageError which names each variable, or file and line, that is wrong, with its value unless that may be
    secret.
    """
    found = _in_environment(model, renamed)
    if not os.environ.get(SETTLED):
        found = _in_files(model, found, renamed, own) | found
    try:
        settings = model.model_validate({name: value for name, (value, _) in found.items()})
    except ValidationError as error:
        wrong = [_complaint(str(item["loc"][0]), refusal(item), model, found) for item in error.errors()]
        raise UsageError(f"settings: {'; '.join(wrong)}") from None
    sources = {name: found[name][1] if name in found else Source() for name in model.model_fields}
    return Loaded(settings, sources)


def as_environment(settings: BaseModel) -> dict[str, str]:
    """What a process needs in its environment to have these settings, beside the secrets, which are in ours."""
    values = {name: getattr(settings, name) for name in settings.model_fields_set}
    shown = {variable(name): _as_text(value) for name, value in values.items() if not isinstance(value, SecretStr)}
    return {name: text for name, text in shown.items() if text} | {SETTLED: "1"}


def _as_text(value: object) -> str:
    if isinstance(value, tuple):
        return ":".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


_Values = dict[str, tuple[str, Source]]


def _in_environment(model: type[BaseModel], renamed: Mapping[str, str]) -> _Values:
    found = {}
    for name, new in [*renamed.items(), *((name, name) for name in model.model_fields)]:  # a new name counts more
        if value := os.environ.get(variable(name)):
            old = variable(name) if name != new else None
            found[new] = (value, Source(variable=variable(name), old_name=old))
    return found


def _in_files(
    model: type[BaseModel], environment: _Values, renamed: Mapping[str, str], own: SettingsFile | None
) -> _Values:
    try:
        home = expanded(environment["home"][0]).absolute() if "home" in environment else None
        home = own.path.parent if own else home
    except ValueError as error:
        raise UsageError(f"{variable('home')}: {error}") from None
    found = find_files(home, new=own)
    values: _Values = {}
    for file in reversed(found.files):
        values |= _texts(file, model, renamed)
    values.pop("home", None)
    if found.home:
        says = found.home_from
        place = Source(file=says.path, line=says.line("home")) if says else Source(file=found.home)
        values["home"] = (str(found.home), place)
    return values


def _texts(file: SettingsFile, model: type[BaseModel], renamed: Mapping[str, str]) -> _Values:
    """The values of a file as the environment would have them. Raises UsageError for what cannot be one."""
    texts: _Values = {}
    for key, value in file.values.items():
        name = renamed.get(key, key)
        if name not in model.model_fields:
            raise UsageError(f"{file.where(key)}: {key!r} is not a setting. Hint: {_nearest(key, model)}")
        field = model.model_fields[name]
        if is_secret(field):
            raise UsageError(
                f"{file.where(key)}: {key} is a secret, and no secret may stand in this file. Hint: delete the line, "
                f"and set {variable(name)} in the environment of the room and of who uses it; see docs/settings-file.md"
            )
        if key == name or name not in file.values:
            source = Source(file=file.path, line=file.line(key), old_name=key if key != name else None)
            texts[name] = (_text(file, key, value, field), source)
    return texts


def _text(file: SettingsFile, key: str, value: object, field: FieldInfo) -> str:
    types = _types(field.annotation)
    several = tuple[Path, ...] in types
    separator = ":" if several else " " if WORDS in field.metadata else None
    parts = list(value) if isinstance(value, list) and separator else [value]
    if not all(isinstance(part, str | int | float) for part in parts):
        wanted = "a text or a list of texts" if separator else "a text, a number, true or false"
        raise UsageError(f"{file.where(key)}: {key} = {_shown(value)}: expected {wanted}")
    texts = [_as_text(part) for part in parts]
    if any("\0" in text for text in texts):
        raise UsageError(f"{file.where(key)}: {key}: holds a NUL character")
    if several and not isinstance(value, list):
        texts = [part for part in texts[0].split(":") if part]
    elif several and (wrong := [text for text in texts if ":" in text]):
        raise UsageError(f"{file.where(key)}: {key}: a path with a colon cannot be in a list of paths: {wrong[0]!r}")
    if Path in types:
        named = [not text or (str in types and is_import_name(text)) for text in texts]
        texts = [text if kept else str(file.absolute(key, text)) for text, kept in zip(texts, named, strict=True)]
    return (separator or "").join(texts)


def _complaint(name: str, message: str, model: type[BaseModel], found: _Values) -> str:
    value, source = found.get(name, ("", Source(variable=variable(name))))
    field = model.model_fields[name]
    place = f"{source}: {source.old_name or name}" if source.file else source.variable
    quoted = value and not (is_secret(field) or WORDS in field.metadata or _HIDDEN.search(value))
    return f"{place}: {message} (found {_shown(value)})" if quoted else f"{place}: {message}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:99]}\N{HORIZONTAL ELLIPSIS}"


def _nearest(key: str, model: type[BaseModel]) -> str:
    near = near_name(key.lower().removeprefix("ops_"), model.model_fields)
    return f"did you mean {near}?" if near else "`ops settings` lists them"
