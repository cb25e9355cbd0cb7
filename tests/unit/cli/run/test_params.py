from __future__ import annotations

from typing import Any

import pytest

from cli.run.params import check_values, described, given_ones, parameters, split_assignments
from opsdb.errors import UsageError
from tests.support.runs_made_up import SCHEMA


def convert(text: str, schema: dict[str, Any], definitions: dict[str, Any] | None = None) -> Any:
    whole = {"type": "object", "properties": {"x": schema}, "definitions": definitions or {}}
    return parameters({"x": text}, schema=whole, defaults={})["x"]


OPTIONAL_INT = {"anyOf": [{"type": "integer"}, {"type": "null"}]}


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("12", {"type": "integer"}, 12),
        ("-3", {"type": "integer"}, -3),
        ("1.5", {"type": "number"}, 1.5),
        ("2e3", {"type": "number"}, 2000.0),
        ("7", {"type": "number"}, 7),
        ("yes", {"type": "boolean"}, True),
        ("FALSE", {"type": "boolean"}, False),
        ("12", {"type": "string"}, "12"),
        ("a=b=c", {"type": "string"}, "a=b=c"),
        ("", {"type": "string"}, ""),
        ("null", {"type": "string"}, "null"),
        ("null", OPTIONAL_INT, None),
        ("4", OPTIONAL_INT, 4),
        ("null", {"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        ("5", {"anyOf": [{"type": "string"}, {"type": "integer"}]}, 5),
        ("five", {"anyOf": [{"type": "string"}, {"type": "integer"}]}, "five"),
        ("sale, stock", {"type": "array", "items": {"type": "string"}}, ["sale", "stock"]),
        ("1,2", {"type": "array", "items": {"type": "integer"}}, [1, 2]),
        ('["a,b"]', {"type": "array", "items": {"type": "string"}}, ["a,b"]),
        ("", {"type": "array"}, []),
        ('{"a": [1]}', {"type": "object"}, {"a": [1]}),
        ("fast", {"$ref": "#/definitions/Level"}, "fast"),
        ("fast", {"allOf": [{"$ref": "#/definitions/Level"}]}, "fast"),
        ("2", {"enum": [1, 2]}, 2),
        ("anything", {}, "anything"),
    ],
)
def test_parameter_takes_the_type_of_its_schema(text: str, schema: dict[str, Any], value: Any) -> None:
    found = convert(text, schema, {"Level": {"enum": ["fast", "full"], "type": "string"}})
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "schema", "message"),
    [
        ("abc", {"type": "integer"}, "parameter x: 'abc' is not an integer"),
        ("1_000", {"type": "integer"}, "is not an integer"),
        ("", {"type": "integer"}, "'' is not an integer"),
        ("nan", {"type": "number"}, "is not a number"),
        ("1e999", {"type": "number"}, "is not a number"),
        ("maybe", {"type": "boolean"}, "is not true or false"),
        ("x", OPTIONAL_INT, "is not an integer or null"),
        ("[1,", {"type": "array"}, "is not a list"),
        ("a,b", {"type": "array", "items": {"type": "integer"}}, "is not a list"),
        ('{"a": NaN}', {"type": "object"}, "is not a JSON object"),
        ('{"a": "\\u0000"}', {"type": "object"}, "is not a JSON object"),
        ('{"a": "\\ud800"}', {"type": "object"}, "is not a JSON object"),
        ('{"__prefect_kind": "jinja"}', {"type": "object"}, "__prefect_kind"),
        ("[" * 100_000, {"type": "array"}, "is not a list"),
        ("slow", {"enum": ["fast", "full"], "type": "string"}, "'slow' is not one of ['fast', 'full']"),
        ("0", {"type": "integer", "minimum": 1}, "parameter x: 0 is less than the minimum of 1"),
        ("9" * 400, {"type": "integer"}, "is not an integer"),
    ],
)
def test_parameter_that_does_not_fit_is_refused_in_one_short_line(
    text: str, schema: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        convert(text, schema)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 400
    assert "\n" not in str(refused.value)


def test_null_of_an_older_run_is_a_parameter_that_was_not_given() -> None:
    types = {"target": {"type": "string", "default": ""}, "most": OPTIONAL_INT, "db": {"$ref": "#/definitions/Db"}}
    schema = {"properties": types, "required": ["db"], "definitions": {"Db": {"type": "string"}}}
    older = {"db": "shop", "target": None, "most": None, "gone": None}
    assert given_ones(older, schema=schema) == {"db": "shop", "most": None}
    assert given_ones({"db": None}, schema=schema) == {"db": None}
    check_values({"db": "shop"}, schema=schema, defaults={"target": None})
    with pytest.raises(UsageError, match="parameter target"):
        check_values({"db": "shop", "target": None}, schema=schema, defaults={})


def test_unknown_parameter_lists_the_known_ones_in_order() -> None:
    with pytest.raises(UsageError) as refused:
        parameters({"databse": "x"}, schema=SCHEMA, defaults={})
    assert str(refused.value) == (
        "parameter 'databse' is unknown. Known: database (string, required), "
        "keep_days (integer, default 7), dry (boolean, default false)"
    )


def test_parameters_are_described_in_order_and_with_what_the_deployment_sets() -> None:
    found = described(SCHEMA, defaults={"database": "shop", "keep_days": 3})
    assert [(one["name"], one["type"], one["required"], one["default"]) for one in found] == [
        ("database", "string", False, "shop"),
        ("keep_days", "integer", False, 3),
        ("dry", "boolean", False, False),
    ]
    assert described(SCHEMA, defaults={})[0]["required"]
    assert described({}, defaults={}) == []


def test_missing_parameter_is_named_unless_the_deployment_sets_it() -> None:
    with pytest.raises(UsageError, match=r"parameter database is missing: give it as -p database=\.\.\."):
        parameters({}, schema=SCHEMA, defaults={})
    assert parameters({}, schema=SCHEMA, defaults={"database": "shop"}) == {}


def test_a_runbook_without_parameters_says_so() -> None:
    with pytest.raises(UsageError, match="takes no parameters"):
        parameters({"x": "1"}, schema={}, defaults={})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["database"], "expected key=value"),
        (["=x"], "expected key=value"),
        (["a=1", "a=2"], "given twice"),
        (["a=\0"], "NUL"),
        (["a=\udcff"], "not valid UTF-8"),
    ],
)
def test_assignment_that_is_none_is_refused(given: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        split_assignments(given)


def test_value_that_cannot_be_part_of_a_command_is_refused_by_its_character() -> None:
    word = {"type": "string", "pattern": "^a$", "x-carriers": ["ODOO_DB"], "minLength": 1}
    schema = {"properties": {"db": word, "names": {"type": "array", "items": word}, "free": {"type": "string"}}}
    for given, reason in {
        "a;b": "contains ';'",
        "a\n": r"contains '\\n'",
        "ODOO_DB": "contains 'ODOO_DB', a variable",
        "": "is empty",
    }.items():
        with pytest.raises(UsageError, match=f"parameter db {reason}"):
            parameters({"db": given}, schema=schema, defaults={})
    with pytest.raises(UsageError, match="parameter names contains '&'"):
        parameters({"names": "a,b&c"}, schema=schema, defaults={})
    assert parameters({"free": "a;b"}, schema=schema, defaults={}) == {"free": "a;b"}
