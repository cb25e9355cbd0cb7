"""The values for a template: from `--set`, the hosting file, the room's own settings, and defaults, in that order.

The hosting file is TOML with a table for each template, named like it; `hosting.toml` in OPS_HOME unless another one is
named. A value that the room has as a setting of the same name, such as `server_url`, need not be repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from opsdb.errors import UsageError
from opsdb.near_names import near_name
from opsdb.refusals import refusal
from opsdb.settings import Settings
from opsdb.settings_file import SettingsFile, read_file

NAME = "hosting.toml"
V = TypeVar("V", bound=BaseModel)


def read_hosting_file(named: Path | None, settings: Settings, tables: Collection[str]) -> SettingsFile | None:
    """The hosting file that is named, or that of the room; None when the room has none.

    Raises UsageError when a named file is missing, when it may not be believed, or holds a table not in `tables`.
    """
    path = named.absolute() if named else settings.home / NAME
    found = read_file(path)
    if found is None:
        if named:
            raise UsageError(f"--settings: there is no file {path}")
        return None
    for key, value in found.values.items():
        if key not in tables:
            raise UsageError(f"{path}: unknown table {key!r}. Hint: {_near(key, tables)}")
        if not isinstance(value, dict):
            raise UsageError(f"{found.where(key)}: {key}: expected a table, as in [{key}]")
    return found


def build_values(
    model: type[V], table: str, *, file: SettingsFile | None, assignments: Sequence[str], settings: Settings
) -> V:
    """The checked values of one table.

    Raises UsageError that names each value which is unknown, missing or refused, where it stands, and what is right.
    """
    stated: Any = file.values.get(table, {}) if file else {}
    typed = _assigned(assignments, model)
    places = dict.fromkeys(stated, f"{file.path}, [{table}]" if file else "") | dict.fromkeys(typed, "--set")
    values = _of_the_room(model, settings) | stated | typed
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = [_complaint(item, model, table, places) for item in error.errors()]
    raise UsageError(f"{table}: {'; '.join(dict.fromkeys(wrong))}")


def _of_the_room(model: type[BaseModel], settings: Settings) -> dict[str, object]:
    """The settings of the room that the template takes as well, where somebody set them."""
    names = settings.model_fields_set & model.model_fields.keys()
    values = {name: getattr(settings, name) for name in names}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items() if value}


def _assigned(assignments: Sequence[str], model: type[BaseModel]) -> dict[str, str]:
    values: dict[str, str] = {}
    for one in assignments:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {one!r}: expected key=value")
        if key in values:
            raise UsageError(f"--set {key}: given twice")
        if key not in model.model_fields:
            raise UsageError(f"--set {key}: unknown value. Hint: {_near(key, model.model_fields)}")
        values[key] = value
    return values


def _complaint(item: Mapping[str, Any], model: type[BaseModel], table: str, places: Mapping[str, str]) -> str:
    key = str(item["loc"][0]) if item["loc"] else table
    if len(item["loc"]) > 1:  # within a list: its place there, counted from 1
        key, *inner = [str(part + 1) if isinstance(part, int) else str(part) for part in item["loc"]]
        return f"{places.get(key, table)}: {' '.join([key, *inner])}: {_message(item)}"
    place = places.get(key) or (f"{key} of the room's settings" if key in model.model_fields else table)
    where = f"{place}: {key}" if key in places else place
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown value. Hint: {_near(key, model.model_fields)}"
    if item["type"] == "missing":
        return (
            f"{key} is missing: {model.model_fields[key].description} "
            f"Hint: --set {key}=..., or {key} = ... below [{table}] of {NAME}"
        )
    return f"{where}: {_message(item)}"


def _message(item: Mapping[str, Any]) -> str:
    message = refusal(item)
    return f"{message} (found {_shown(item['input'])})" if isinstance(item["input"], str | int | float) else message


def _near(key: str, known: Collection[str]) -> str:
    near = near_name(key.replace("-", "_"), known) or near_name(key, known)
    return f"did you mean {near}?" if near else f"choose from {', '.join(known)}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:99]}\N{HORIZONTAL ELLIPSIS}"
