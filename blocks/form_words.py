"""What a form, and the error for a wrong value, say in words: rules of a text's type that operators can read.

The words travel in the schema of the form, so that whoever checks a value says them: Prefect's server, which answers
the forms of both its UIs, `ops run`, and the run itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from opsdb.shown import shown

WORDS = "errorMessage"
"""Where a schema has them: the keyword that validators in JavaScript (ajv-errors) have made common."""
OFFERS = "x-offers"
"""Where it has the `Offer` of a field, until the form is made."""
MAY_BE_NULL = "x-may-be-null"
"""Where it says until then that a null is taken, too."""
SHOWN = 80
"""Characters of a wrong value in an error."""


def refusal(value: object, words: str) -> str:
    """The error for a value that is not what the words say."""
    text = shown(str(value))
    return f"'{text if len(text) <= SHOWN else text[: SHOWN - 3] + '...'}' is not {words}"


@dataclass(frozen=True, slots=True)
class InWords:
    """Says what a text is: `a name: small letters and digits`. Stands behind the rules that it describes."""

    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate as before, and say what is wrong in words."""
        return core_schema.no_info_wrap_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The same schema, with the words."""
        return {**handler(core), WORDS: self.words}

    def _check(self, value: Any, check: core_schema.ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(value)
        except ValidationError as error:
            if any(one["type"] == "value_error" for one in error.errors(include_url=False)):
                raise  # a rule that says itself what is wrong
            raise ValueError(refusal(value, self.words)) from None


class Offer(StrEnum):
    """What a form can name that exists, once `ops deploy` has looked."""

    DATABASES = "databases"
    BACKUP_FOLDER = "backup folder"


@dataclass(frozen=True, slots=True)
class Offers:
    """Says what the description of a field names. It offers: a value that is not among them may be right as well."""

    what: Offer

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The same schema, with a mark for whoever makes the form."""
        return {**handler(core), OFFERS: self.what.value}


@dataclass(frozen=True, slots=True)
class OrEmpty:
    """Makes a text optional: an empty one stands for what was not given, as does the null of earlier versions' runs.

    The form has a plain field for it, where `str | None` would be a switch between two types. Its schema has no
    default: then Prefect takes a null as well, which stands in the parameters of deployments, schedules and runs.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let an empty text through."""
        return core_schema.no_info_wrap_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The same schema, which an empty text fits."""
        schema = handler(core)
        schema.pop("minLength", None)
        return {**schema, "pattern": f"^$|{schema['pattern']}"}

    def _check(self, value: Any, check: core_schema.ValidatorFunctionWrapHandler) -> Any:
        return "" if value in (None, "") else check(value)


@dataclass(frozen=True, slots=True)
class OrNothing:
    """Lets a null, or a zero, stand for a number that was not given: runs and schedules of earlier versions have it.

    The form has a plain field for it, as for `OrEmpty`, and shows it empty: its description says what that stands for.
    """

    instead: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Put the number in its place."""
        return core_schema.no_info_before_validator_function(lambda given: given or self.instead, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The same schema, with a mark for whoever makes the form."""
        return {**handler(core), MAY_BE_NULL: True}
