from __future__ import annotations

from typing import Any

import pytest
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from opsdb.kinds.kinds import registered_entrypoints
from opsdb.kinds.subjects import LONGEST, REFERENCE, Subject, subject_of
from opsdb.settings import Settings


def name(pattern: str, **params: Any) -> str:
    return Subject(kind="kind", pattern=pattern).name(params)


@pytest.mark.parametrize(
    ("pattern", "params", "wanted"),
    [
        ("${params.db} · backup", {"db": "odoo_prod"}, "odoo_prod · backup"),
        ("${params.db} · upgrade ${params.m}", {"db": "o", "m": ["sale", "stock"]}, "o · upgrade sale, stock"),
        ("${params.n}, ${params.yes}", {"n": 3, "yes": True}, "3, yes"),
        ("${params.roles}", {"roles": {"a": "b"}}, "a b"),
        ("${params.missing} · backup", {}, "backup"),
        ("${params.missing}", {}, "kind"),
        ("${params.db} · x", {"db": "  a \n\t b "}, "a b · x"),
        ("${params.db} · x", {"db": "${params.other}", "other": "no"}, "${params.other} · x"),
        ("${params.db}", {"db": "\x1b[31mred\u202e\x00\ud800"}, r"\x1b[31mred\u202e\x00\ud800"),
    ],
)
def test_name_is_the_pattern_with_values_on_one_line(pattern: str, params: dict[str, Any], wanted: str) -> None:
    assert name(pattern, **params) == wanted


def test_name_that_is_too_long_is_cut_at_a_word() -> None:
    modules = [f"module_{number}" for number in range(40)]
    found = name("${params.db} · upgrade ${params.modules}", db="odoo_prod", modules=modules)
    assert found == "odoo_prod · upgrade module_0, module_1, module_2, module_3, module_4, module_5…"
    assert len(found) <= LONGEST
    assert name("${params.x}", x="a" * 200) == "a" * (LONGEST - 1) + "…"
    assert name("${params.x}", x="a" * LONGEST) == "a" * LONGEST
    assert name("${params.x} more", x="a" * (LONGEST - 1)) == "a" * (LONGEST - 1) + "…"


def test_kind_that_declares_none_is_called_by_its_main_parameters() -> None:
    schema = {"properties": {"where": {}, "deep": {"default": 3}, "api_token": {}}, "required": ["api_token", "where"]}
    assert subject_of("cleanup", None, schema).name({"where": "/srv", "api_token": "x"}) == "/srv · cleanup"
    assert subject_of("cleanup", None, {}).name({"where": "/srv"}) == "cleanup"


def test_secret_that_a_subject_names_is_left_out_of_names_and_defaults() -> None:
    schema = {"properties": {"where": {}, "api_token": {"default": "hunter2"}}}
    subject = subject_of("cleanup", "${params.where} · as ${params.api_token}", schema)
    assert subject.defaults == {}
    assert subject.name({"where": "/srv", "api_token": "x"}) == "/srv · as"
    assert subject_of("cleanup", "${params.api_token}", schema).name({"api_token": "x"}) == "cleanup"


def test_value_that_nobody_gave_is_the_default() -> None:
    schema = {"properties": {"where": {"default": "/"}, "other": {"default": 1}}}
    subject = subject_of("disk", "${params.where} · disk", schema)
    assert subject.defaults == {"where": "/"}
    assert subject.name({}) == "/ · disk"
    assert subject.name({"where": "/srv"}) == "/srv · disk"


@pytest.mark.parametrize("entrypoint", sorted(registered_entrypoints(Settings().prefect_yaml)))
def test_each_kind_declares_a_subject_of_its_parameters(entrypoint: str) -> None:
    flow: Any = load_flow_from_entrypoint(entrypoint)
    subject: str = flow.fn.subject
    assert set(REFERENCE.findall(subject)) <= parameter_schema(flow).properties.keys()
