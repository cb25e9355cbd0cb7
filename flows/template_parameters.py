"""The parameters of a template, as types that a form shows and a run checks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from blocks.odoo_fields import CheckoutFolder, ComposeFile, ComposeService, HealthUrl
from flows.backup_parameters import OdooDatabase, RetentionDays
from flows.deploy_parameters import Domain, DropletName, Email, RepoUrl
from flows.odoo_parameters import GitRef, OdooModules
from flows.template_model import Parameter

REQUIRED = inspect.Parameter.empty
LONGEST_TEXT = 1_000
LONGEST_LIST = 100

# No control characters, nothing that changes the direction of writing, no blank or dash in front.
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
_TEXT = rf"[^{_UNSEEN}\x20\xa0-][^{_UNSEEN}]*"
_ITEM = rf"[^{_UNSEEN}\x20\xa0,-][^{_UNSEEN},]*"


def _no_control_characters(text: str) -> str:
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text):
        raise ValueError("must not hold control characters")
    return text


def _no_comma(text: str) -> str:
    if "," in text:
        raise ValueError("must not hold a comma: commas stand between the items where a command reads them")
    return text


def _each_once(items: list[Any]) -> list[Any]:
    if len(set(items)) < len(items):
        raise ValueError("an item is named twice: name each once")
    return items


S3Bucket = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")]


@dataclass(frozen=True, slots=True)
class FormParameter:
    """One parameter of the form. `default` is REQUIRED when it must be given."""

    name: str
    type: str
    annotation: Any
    default: Any
    description: str

    @property
    def number(self) -> bool:
        """Whether its text can only be a number."""
        return self.type in ("integer", "number")


KNOWN = {
    one.name: one
    for one in (
        FormParameter("odoo_db", "string", OdooDatabase, REQUIRED, "Name of an Odoo database."),
        FormParameter("modules", "list", OdooModules, REQUIRED, "Names of Odoo modules, each once."),
        FormParameter("git_ref", "string", GitRef, "main", "Branch, tag or commit."),
        FormParameter(
            "compose_file", "string", ComposeFile, "deploy/docker-compose.prod.yml", "The compose file of the services."
        ),
        FormParameter("odoo_service", "string", ComposeService, "odoo", "Odoo's service in the compose file."),
        FormParameter("repo_dir", "string", CheckoutFolder, "/opt/odoo", "Absolute path of the checkout."),
        FormParameter("repo_url", "string", RepoUrl, REQUIRED, "Address of a repository, https."),
        FormParameter("health_url", "string", HealthUrl, REQUIRED, "Address that answers with success."),
        FormParameter("domain", "string", Domain, REQUIRED, "A domain name."),
        FormParameter("email", "string", Email, REQUIRED, "An email address."),
        FormParameter("droplet_name", "string", DropletName, REQUIRED, "Name of a droplet."),
        FormParameter("s3_bucket", "string", S3Bucket, REQUIRED, "A bucket, and a folder in it after a slash."),
        FormParameter("retention_days", "integer", RetentionDays, 30, "Days."),
    )
}


def form_parameter(name: str, declared: Parameter | None) -> FormParameter:
    """What a parameter takes. Raises ValueError, `FIELD: what is wrong`, for a declaration that makes no sense."""
    declared = declared or Parameter()
    ruled = any(
        value is not None
        for value in (
            declared.type,
            declared.pattern,
            declared.enum,
            declared.minimum,
            declared.maximum,
            declared.max_length,
        )
    )
    known = None if ruled else KNOWN.get(name)
    annotation, kind = (known.annotation, known.type) if known else (_annotation(declared), declared.type or "string")
    default = declared.default if declared.default is not None else known.default if known else REQUIRED
    if default is not REQUIRED:
        try:
            default = TypeAdapter(annotation).validate_python(default)
        except ValidationError as error:
            raise ValueError(f"default: {error.errors()[0]['msg']}") from None
    description = declared.description or (known.description if known else "")
    return FormParameter(name, kind, annotation, default, description)


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


def _annotation(declared: Parameter) -> Any:
    kind = declared.type or "string"
    _check_fields(declared, kind)
    limits: dict[str, Any] = {"ge": declared.minimum, "le": declared.maximum}
    match kind:
        case "boolean":
            return bool
        case "integer" | "string" if declared.enum is not None:
            return Literal[tuple(declared.enum)]
        case "integer":
            return Annotated[int, Field(**limits)]
        case "number":
            return Annotated[float, Field(**limits, allow_inf_nan=False)]
        case "string":
            return _text(declared, _TEXT)
        case _:
            item: Any = Literal[tuple(declared.enum)] if declared.enum is not None else _text(declared, _ITEM)
            return Annotated[
                list[Annotated[item, AfterValidator(_no_comma)]],
                Field(min_length=1, max_length=LONGEST_LIST, json_schema_extra={"uniqueItems": True}),
                AfterValidator(_each_once),
            ]


def _text(declared: Parameter, usual: str) -> Any:
    # the whole text: a pattern without anchors would let anything stand around what it allows
    alone = usual if declared.pattern is None else declared.pattern
    pattern = f"^(?:{alone})$"
    try:
        re.compile(alone)  # by itself: `a)|(?:.*` would take the anchors apart
        TypeAdapter(Annotated[str, Field(pattern=alone)])
        field = Annotated[
            str,
            Field(pattern=pattern, max_length=declared.max_length or LONGEST_TEXT),
            AfterValidator(_no_control_characters),
        ]
        TypeAdapter(field)
    except (re.error, SchemaError) as error:
        raise ValueError(f"pattern: is no regular expression that can be used here: {error}") from None
    return field


_TYPE_OF_MEMBERS: Mapping[str, type] = {"string": str, "list": str, "integer": int}


def _check_fields(declared: Parameter, kind: str) -> None:
    allowed = {
        "string": {"pattern", "enum", "max_length"},
        "list": {"pattern", "enum", "max_length"},
        "integer": {"enum", "minimum", "maximum"},
        "number": {"minimum", "maximum"},
        "boolean": set[str](),
    }[kind]
    for field in ("pattern", "enum", "minimum", "maximum", "max_length"):
        if getattr(declared, field) is not None and field not in allowed:
            raise ValueError(f"{field}: is not for type {kind}, which takes {', '.join(sorted(allowed)) or 'none'}")
    if declared.enum is not None:
        if declared.pattern is not None:
            raise ValueError("pattern: says nothing beside enum: leave one out")
        for member in declared.enum:
            if type(member) is not _TYPE_OF_MEMBERS[kind]:
                raise ValueError(f"enum: {member!r} is no {_TYPE_OF_MEMBERS[kind].__name__}, which type {kind} wants")
            _no_control_characters(str(member))
    if declared.minimum is not None and declared.maximum is not None and declared.minimum > declared.maximum:
        raise ValueError("minimum: is above maximum: no value would do")
