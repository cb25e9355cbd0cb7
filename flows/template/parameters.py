"""The parameters of a template, as types that a form shows and a run checks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from blocks.form_words import WORDS
from blocks.form_words import refusal as refusal_in_words
from flows.backup.parameters import each_once
from flows.template.known_parameters import KNOWN, REQUIRED, FormParameter
from flows.template.model import Parameter
from flows.template.words import CARRIERS, IN_WORDS, LONGEST, checked, form_pattern, refusal
from opsdb.refusals import refusal as refusal_of

LONGEST_TEXT = 1_000
LONGEST_LIST = 100

# No control characters but tab and newline, and nothing that changes the direction of writing.
_UNSEEN = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
_TEXT = rf"^[^{_UNSEEN}]*$"
# What a command has as `$PARAM_X`, mostly as an argument: one line, and no dash in front, which would be an option.
_ARGUMENT = rf"^(?:[^{_UNSEEN}\t\n\x20\xa0-][^{_UNSEEN}\t\n]*)?$(?![\s\S])"
_TEXT_WORDS = "a text without control characters and marks that change the direction of writing"
_ARGUMENT_WORDS = "one line, without a dash or a blank in front, and without control characters"
_WHERE = Literal["command", "argument", "environment"]


def _no_control_characters(text: str) -> str:
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text):
        raise ValueError("must not hold control characters")
    return text


def _no_comma(text: str) -> str:
    if "," in text:
        raise ValueError("must not hold a comma: commas stand between the items where a command reads them")
    return text


@dataclass(frozen=True, slots=True)
class Place:
    """Where the commands have a parameter: in their `command` text, as an `argument` by a variable, or neither.

    `carriers` are the variables of the steps that hold a parameter's value.
    """

    where: _WHERE = "environment"
    carriers: frozenset[str] = frozenset()


def form_parameter(name: str, declared: Parameter | None, place: Place = Place()) -> FormParameter:  # frozen
    """What a parameter takes. Raises ValueError, `FIELD: what is wrong`, for a declaration that makes no sense."""
    declared = declared or Parameter()
    known = None if any(getattr(declared, rule) is not None for rule in _RULES) else KNOWN.get(name)
    kind = known.type if known else declared.type or "string"
    rule = ""
    if declared.existing is not None and kind not in ("string", "list"):
        raise ValueError(f"existing: is not for type {kind}: a path is a string")
    try:
        if known is None:
            annotation, rule = _annotation(name, declared, kind, place)
        else:
            annotation = _placed(known, place)
        TypeAdapter(annotation)
    except (SchemaError, OverflowError) as error:
        raise ValueError(f"its limits make no type: {str(error).splitlines()[0]}") from None
    default = declared.default if declared.default is not None else known.default if known else REQUIRED
    if default is not REQUIRED:
        try:
            default = TypeAdapter(annotation).validate_python(default)
        except ValidationError as error:
            raise ValueError(f"default: {refusal_of(error.errors()[0])}") from None
    description = declared.description or (known.description if known else "")
    return FormParameter(name, kind, annotation, default, f"{description} {rule}".strip())


def _placed(known: FormParameter, place: Place) -> Any:
    """The type of a known parameter where the commands have it: its own rule, and that of a command."""
    if place.where != "command" or known.plain:
        return known.annotation
    form: dict[str, Any] = {CARRIERS: sorted(place.carriers)}
    if known.type == "string":
        own = TypeAdapter(known.annotation).json_schema()
        form["pattern"] = f"(?={own['pattern']})" + form_pattern(carriers=place.carriers, may_be_empty=False)
        form[WORDS] = f"{own[WORDS]}; and of what a command may hold: {IN_WORDS}"
    check = AfterValidator(checked(known.name, carriers=place.carriers, may_be_empty=False))
    return Annotated[known.annotation, Field(json_schema_extra=form), check]


def signature_of(parameters: Iterable[FormParameter]) -> inspect.Signature:
    """The signature of a function that takes these and nothing else."""
    return inspect.Signature(
        [
            inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.annotation)
            for one in parameters
        ]
    )


def schema_of(parameters: Iterable[FormParameter]) -> dict[str, dict[str, Any]]:
    """The JSON Schema of each, by name."""
    return {one.name: TypeAdapter(one.annotation).json_schema() for one in parameters}


def as_text(value: Any) -> str:
    """A parameter's value as a command reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    return ",".join(value) if isinstance(value, list) else str(value)


def _annotation(name: str, declared: Parameter, kind: str, place: Place) -> tuple[Any, str]:
    """The type of a parameter with rules of its own, and its rule in words."""
    _check_fields(declared, kind)
    limits: dict[str, Any] = {"ge": declared.minimum, "le": declared.maximum}
    match kind:
        case "boolean":
            return bool, ""
        case "integer" | "string" if declared.enum is not None:
            _check_members(name, declared.enum, place)
            return Literal[tuple(declared.enum)], ""
        case "integer":
            return Annotated[int, Field(**limits)], ""
        case "number":
            return Annotated[float, Field(**limits, allow_inf_nan=False)], ""
        case "string":
            return _text(name, declared, place), _rule(declared, place)
        case _:
            item: Any = _text(name, declared, place, item=True)
            if declared.enum is not None:
                _check_members(name, declared.enum, place)
                item = Literal[tuple(declared.enum)]
            of_all = Annotated[
                list[Annotated[item, AfterValidator(_no_comma)]],
                Field(min_length=1, max_length=LONGEST_LIST, json_schema_extra={"uniqueItems": True}),
                AfterValidator(each_once),
            ]
            return of_all, "" if declared.enum is not None else _rule(declared, place)


def _check_members(name: str, members: list[Any], place: Place) -> None:
    for text in members if place.where == "command" else []:
        if isinstance(text, str) and (reason := refusal(name, text, carriers=place.carriers, may_be_empty=True)):
            raise ValueError(f"enum: {text!r}: {reason}")


def _text(name: str, declared: Parameter, place: Place, *, item: bool = False) -> Any:
    """The form gets no expression but the room's own: Prefect's server tries them in its event loop, and may hang."""
    least = 1 if declared.min_length is None else declared.min_length
    shown = _TEXT if place.where == "environment" or declared.pattern is not None else _ARGUMENT
    words = _TEXT_WORDS if shown is _TEXT else _ARGUMENT_WORDS
    form: dict[str, Any] = {"pattern": shown}
    checks: list[Any] = [AfterValidator(_no_control_characters if declared.pattern else _matching(shown))]
    if declared.pattern is not None:
        checks.append(AfterValidator(_own_pattern(declared.pattern, declared.words)))
    if place.where == "command":
        pattern = form_pattern(carriers=place.carriers, may_be_empty=least == 0)
        form, words = {"pattern": pattern, CARRIERS: sorted(place.carriers)}, f"allowed in a command: {IN_WORDS}"
        # before all else, since it says which character is wrong
        checks.insert(0, AfterValidator(checked(name, carriers=place.carriers, may_be_empty=least == 0)))
    if item:
        form["pattern"] = f"^(?![\\s\\S]*,){form['pattern'].removeprefix('^')}"
        words = f"{words}; without commas, which stand between the items where a command reads them"
    form[WORDS] = declared.words or words
    longest = declared.max_length or LONGEST_TEXT
    longest = min(longest, LONGEST) if place.where == "command" else longest
    if least > longest:
        raise ValueError(f"min_length: {least:,} is more than the longest text, {longest:,}: no value would do")
    field = Field(min_length=least, max_length=longest, json_schema_extra=form)
    return Annotated[str, field, *checks]


def _rule(declared: Parameter, place: Place) -> str:
    rules = [f"Takes {declared.words}."] if declared.words else []
    if place.where == "command":
        rules.append(f"Allowed: {IN_WORDS}.")
    elif place.where == "argument" and declared.pattern is None:
        rules.append("One line, without a dash or blank in front.")
    if declared.pattern is not None and not declared.words:
        rules.append(f"The whole of it matches {declared.pattern}")
    return " ".join(rules)


def _matching(pattern: str) -> Callable[[str], str]:
    """A validator by one of the room's own expressions, which are linear."""
    compiled = re.compile(pattern)

    def match(text: str) -> str:
        if compiled.search(text) is None:
            raise ValueError(refusal_in_words(text, _TEXT_WORDS if pattern == _TEXT else _ARGUMENT_WORDS))
        return text

    return match


def _own_pattern(pattern: str, words: str) -> Callable[[str], str]:
    """A validator by a template's expression, in an engine that cannot backtrack. Raises ValueError.

    It says what it takes in `words`, where the template has some.
    """
    try:
        TypeAdapter(Annotated[str, Field(pattern=pattern)])  # by itself: `a)|(?:.*` would take the anchors apart
        whole = TypeAdapter(Annotated[str, Field(pattern=f"^(?:{pattern})$")])
    except SchemaError as error:
        raise ValueError(f"pattern: is not a regular expression that can be used here: {error}") from None

    def match(text: str) -> str:
        try:
            return whole.validate_python(text)
        except ValidationError:
            reason = refusal_in_words(text, words) if words else f"must match {pattern} as a whole"
            raise ValueError(reason) from None

    return match


_TYPE_OF_MEMBERS: Mapping[str, type] = {"string": str, "list": str, "integer": int}


_RULES = ("type", "pattern", "enum", "minimum", "maximum", "min_length", "max_length")


def _check_fields(declared: Parameter, kind: str) -> None:
    allowed = {
        "string": {"pattern", "enum", "min_length", "max_length"},
        "list": {"pattern", "enum", "max_length"},
        "integer": {"enum", "minimum", "maximum"},
        "number": {"minimum", "maximum"},
        "boolean": set[str](),
    }[kind]
    for field in _RULES[1:]:
        if getattr(declared, field) is not None and field not in allowed:
            raise ValueError(f"{field}: is not for type {kind}, which takes {', '.join(sorted(allowed)) or 'none'}")
    if declared.words and declared.pattern is None:
        raise ValueError("words: says what a pattern takes, and there is none: use description")
    if declared.enum is not None:
        if declared.pattern is not None:
            raise ValueError("pattern: says nothing beside enum: leave one out")
        for member in declared.enum:
            if type(member) is not _TYPE_OF_MEMBERS[kind]:
                raise ValueError(f"enum: {member!r} is not of type {kind}")
            _no_control_characters(str(member))
    if declared.minimum is not None and declared.maximum is not None and declared.minimum > declared.maximum:
        raise ValueError("minimum: is above maximum: no value would do")
