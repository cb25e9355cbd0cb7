"""`-p key=value` becomes the parameters of a run, checked against what its kind takes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import best_match

from blocks.form_check import in_words
from cli.options import storable
from opsdb.errors import UsageError

Schema = Mapping[str, Any]

BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
ORDER = ("null", "boolean", "integer", "number", "array", "object", "string")
"""Which type wins where a parameter allows several: text is what everything could be, so it comes last."""
INTEGER = re.compile(r"[+-]?[0-9]{1,300}")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?")
A_TYPE = {
    "null": "null",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "array": "a list (a,b,c or JSON)",
    "object": "a JSON object",
    "string": "text",
}


class _NotThatError(ValueError):
    """The text does not spell a value of that type."""


def split_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """The texts given as `key=value`, by key. Raises UsageError for anything else, and for a key given twice."""
    given: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = storable(assignment, what="-p").partition("=")
        if not equals or not key.strip():
            raise UsageError(f"-p {assignment!r}: expected key=value")
        if key.strip() in given:
            raise UsageError(f"-p {key.strip()}: given twice")
        given[key.strip()] = value
    return given


def parameters(given: Mapping[str, str], *, schema: Schema, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run, by the types in `schema` (Prefect's `parameter_openapi_schema`).

    `defaults` are those that the deployment sets: they need not be given. Raises UsageError as `check_values`.
    """
    known: Mapping[str, Schema] = schema.get("properties") or {}
    _check_names(given, schema=schema, defaults=defaults)
    values = {name: _value(name, text, known[name], schema) for name, text in given.items()}
    check_values(values, schema=schema, defaults=defaults)
    return values


def given_ones(values: Mapping[str, Any], *, schema: Schema) -> dict[str, Any]:
    """Without the nulls that only say that a parameter was not given, as older versions recorded and planned them.

    A null stays where the parameter may be null, and where it must be given: there it is an error to be named.
    """
    known, required = schema.get("properties") or {}, schema.get("required") or ()
    one_alone = Draft202012Validator({**schema, "required": []})
    return {
        name: value
        for name, value in values.items()
        if value is not None or name in required or (name in known and one_alone.is_valid({name: None}))
    }


def check_values(values: Mapping[str, Any], *, schema: Schema, defaults: Mapping[str, Any]) -> None:
    """Raise UsageError that names the first parameter that is unknown, missing or wrong, and what would be right."""
    known: Mapping[str, Schema] = schema.get("properties") or {}
    defaults = given_ones(defaults, schema=schema)
    _check_names(values, schema=schema, defaults=defaults)
    for name, value in values.items():
        _check_plain_words(name, value, known[name])
    checker = in_words(Draft202012Validator)(dict(schema), format_checker=FormatChecker())
    wrong = best_match(checker.iter_errors({**defaults, **values}))
    if wrong is not None:
        name, *inside = wrong.absolute_path or ["(all)"]
        where = "".join(f"[{part!r}]" for part in inside)
        raise UsageError(f"parameter {name}{where}: {_short(wrong.message)}{_meaning(known.get(str(name)), schema)}")
    if _holds_key(values, "__prefect_kind"):
        raise UsageError("the key '__prefect_kind' has a meaning of its own to Prefect: rename it")


def _check_names(given: Mapping[str, Any], *, schema: Schema, defaults: Mapping[str, Any]) -> None:
    known = schema.get("properties") or {}
    for name in given:
        if name not in known:
            raise UsageError(f"parameter {name!r} is unknown. {_known(schema, defaults)}")
    for name in schema.get("required") or ():
        if name not in given and name not in defaults:
            raise UsageError(f"parameter {name} is missing: give it as -p {name}=... {_known(schema, defaults)}")


def _check_plain_words(name: str, value: Any, schema: Schema) -> None:
    """Say which character of a value cannot be part of a command: the pattern of the form says it less well."""
    from flows.template.words import CARRIERS, refusal

    rule = schema if CARRIERS in schema else schema.get("items") or {}
    for text in value if isinstance(value, list) else [value]:
        if CARRIERS in rule and isinstance(text, str):
            reason = refusal(name, text, carriers=rule[CARRIERS], may_be_empty=rule.get("minLength") == 0)
            if reason is not None:
                raise UsageError(f"parameter {reason}")


def _value(name: str, text: str, schema: Schema, root: Schema) -> Any:
    types = _types(schema, root)
    if not types:
        return _enum_member(text, schema, root)
    for wanted, part in sorted(types, key=lambda item: ORDER.index(item[0])):
        try:
            return _convert(text, wanted, part, root)
        except _NotThatError:
            continue
    right = " or ".join(A_TYPE[wanted] for wanted in dict.fromkeys(wanted for wanted, _ in types))
    raise UsageError(f"parameter {name}: {_short(repr(text))} is not {right}{_meaning(schema, root)}")


def _convert(text: str, wanted: str, schema: Schema, root: Schema) -> Any:
    word = text.strip().lower()
    match wanted:
        case "string":
            value: Any = text
        case "null" if text == "null":
            value = None
        case "boolean" if word in BOOLEANS:
            value = BOOLEANS[word]
        case "integer" if INTEGER.fullmatch(word):
            value = int(word)
        case "number":
            value = _number(word)
        case "array":
            value = _array(text, schema, root)
        case "object":
            value = _json(text, dict)
        case _:
            raise _NotThatError
    return value


def _number(word: str) -> float | int:
    if INTEGER.fullmatch(word):
        return int(word)
    if not NUMBER.fullmatch(word) or not math.isfinite(float(word)):
        raise _NotThatError
    return float(word)


def _array(text: str, schema: Schema, root: Schema) -> list[Any]:
    if text.lstrip().startswith("["):
        return list(_json(text, list))
    if not text.strip():
        return []
    items = schema.get("items") or {}
    try:
        return [_value("", item.strip(), items, root) for item in text.split(",")]
    except UsageError:
        raise _NotThatError from None


def _json(text: str, wanted: type[dict[str, Any]] | type[list[Any]]) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # "\ud800" in JSON is a lone surrogate
    except (ValueError, RecursionError):
        raise _NotThatError from None
    if not isinstance(value, wanted) or "\\u0000" in json.dumps(value):
        raise _NotThatError
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are not JSON


def _enum_member(text: str, schema: Schema, root: Schema) -> Any:
    """A value without a declared type: the member of the enumeration that is spelled so, else the text."""
    part = _resolve(schema, root)
    members = [part["const"]] if "const" in part else part.get("enum") or ()
    return next((member for member in members if str(member) == text), text)


def _types(schema: Schema, root: Schema, depth: int = 0) -> list[tuple[str, Schema]]:
    """The types that a parameter may have, each with the part of the schema that says so."""
    schema = _resolve(schema, root)
    if depth > 10:
        return []
    found: list[tuple[str, Schema]] = []
    for word in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(word) or ():
            found += _types(part, root, depth + 1)
    declared = schema.get("type")
    names = declared if isinstance(declared, list) else [declared] if declared else []
    return found + [(name, schema) for name in names if name in ORDER]


def _resolve(schema: Schema, root: Schema) -> Schema:
    for _ in range(10):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return schema
        target: Any = root
        for part in reference.removeprefix("#/").split("/"):
            target = target.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(target, Mapping) else {}
        schema = target
    return schema


def described(schema: Schema, *, defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parameters that a runbook takes, in its order: name, type, required, default and description of each."""
    known: Mapping[str, Schema] = schema.get("properties") or {}
    required = set(schema.get("required") or ()) - defaults.keys()
    # a schema that went through the server's database has lost its order
    in_order = sorted(known.items(), key=lambda item: (item[0] not in required, item[1].get("position", 0)))
    return [
        {
            "name": name,
            "type": "|".join(dict.fromkeys(wanted for wanted, _ in _types(part, schema))) or "any",
            "required": name in required,
            "default": defaults.get(name, part.get("default")),
            "description": _words(part, schema),
        }
        for name, part in in_order
    ]


def default_text(param: Mapping[str, Any]) -> str:
    """The default of a described parameter that need not be given; a text that may be empty has none."""
    return "empty" if param["default"] is None else json.dumps(param["default"], ensure_ascii=False, default=str)


def _known(schema: Schema, defaults: Mapping[str, Any]) -> str:
    listed = []
    for one in described(schema, defaults=defaults):
        default = "required" if one["required"] else f"default {default_text(one)}"
        listed.append(f"{one['name']} ({one['type']}, {default})")
    return f"Known: {', '.join(listed)}" if listed else "This runbook takes no parameters"


def _meaning(schema: Schema | None, root: Schema) -> str:
    words = _words(schema or {}, root)
    return f". {words}" if words else ""


def _words(schema: Schema, root: Schema) -> str:
    """What the runbook itself says of the parameter."""
    return " ".join(str(_resolve(schema, root).get("description") or "").split())


def _holds_key(value: Any, key: str) -> bool:
    if isinstance(value, Mapping):
        return key in value or any(_holds_key(item, key) for item in value.values())
    return isinstance(value, list) and any(_holds_key(item, key) for item in value)


def _short(text: str, width: int = 200) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
