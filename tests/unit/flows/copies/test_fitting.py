"""A rule for anonymising fits its column, or is refused with the methods that would do."""

from __future__ import annotations

import pytest

from flows.copies.anonymise import MADE_UP_LENGTHS, Rule
from flows.copies.catalogue import Catalogue
from flows.copies.fitting import misfits

TEXTS = {
    "table": {"public.p": "", "other.p": ""},
    "view": {"public.v": ""},
    "column": {
        "public.p.id": "integer NOT NULL IDENTITY ALWAYS",
        "public.p.name": "jsonb NOT NULL",
        "public.p.email": "character varying NOT NULL STORAGE EXTERNAL",
        "public.p.ref": "character varying(20)",
        "public.p.login": "text COLLATE en_US NOT NULL",
        "public.p.code": "character varying(40)",
        "public.p.lower": "text",
        "public.p.upper": "text",
        'public.p."Mixed"': "text NOT NULL",
        'public.p."camelCase"': "text",
        "public.p.mood": "public.mood",
        "public.p.tags": "text[]",
        "public.p.whole": "text STORED",
        "public.p.zip": "public.zip",
        "public.p.case": "public.citext",
        "public.p.born": "date",
        "public.p.age": "integer",
        "public.p.rate": "numeric(5,2) NOT NULL",
        "public.p.works": "boolean",
        "public.p.country": "character varying",
        "public.v.name": "text",
        "other.q.name": "text",
    },
    "constraint": {
        "p_login_key on public.p": "UNIQUE (login)",
        "p_mixed on public.p": 'UNIQUE NULLS NOT DISTINCT ("Mixed")',
        "p_two on public.p": "UNIQUE (email, ref)",
        "p_country_fkey on public.p": "FOREIGN KEY (country) REFERENCES public.c(code)",
    },
    "type": {"public.mood": "e ENUM 'happy', 'not so', 'it''s over'", "public.zip": "d character varying(5) NOT NULL"},
}
INDEXES = [
    ("public.p", "UNIQUE USING btree (code) WHERE (code IS NOT NULL)"),
    ("public.p", "UNIQUE USING btree (lower(lower))"),
    ("public.p", "UNIQUE USING btree (COALESCE(upper(upper), ''::text)) WITH (fillfactor='90')"),
    ("public.p", "CLUSTERED UNIQUE USING btree (lower((\"camelCase\")::text), md5('a, b')) INCLUDE (ref)"),
    ("public.p", 'UNIQUE USING btree (lower(("camelCase")::text)) INCLUDE (ref, email)'),
    ("public.p", "UNIQUE USING btree (ref, email)"),
    ("public.p", "USING btree (ref)"),
    ("other.p", "UNIQUE USING btree (ref)"),
]


def refusal(value: str, type_name: str) -> str | None:
    """As a server that takes all but one value would."""
    return f"is of type {type_name}, which does not take {value!r}: said the server" if value == "wrong" else None


def said(column: str, method: str, value: str | None = None, table: str = "p", *, rows: int | None = None) -> list[str]:
    rule = Rule.model_validate({"table": table, "column": column, "method": method, "value": value}).at(7)
    return misfits([rule], Catalogue.of(TEXTS, INDEXES, lambda _table: rows), refusal)


@pytest.mark.parametrize(
    ("column", "method", "value", "why"),
    [
        ("name", "null", None, "the column is NOT NULL. constant, hash, fake_email, fake_name or fake_phone would do"),
        ("email", "null", None, "the column is NOT NULL. constant, hash, "),
        ("zip", "null", None, "the column is NOT NULL. constant would do"),
        ("rate", "null", None, "the column is NOT NULL. constant would do"),
        (
            "ref",
            "hash",
            None,
            "the column takes 20 characters, and hash makes 32. null, constant or fake_phone would do",
        ),
        ("zip", "fake_phone", None, "the column takes 5 characters, and fake_phone makes 13. constant would do"),
        ("zip", "constant", "12345-1", "the column takes 5 characters, and '12345-1' has 7"),
        ("login", "constant", "x", "the column is unique, and each row would get the same value. hash, "),
        ("code", "constant", "x", "the column is unique, and"),
        ("lower", "constant", "x", "the column is unique, and"),
        ("login", "fake_phone", None, "the column is unique, and two rows could get the same number. hash, "),
        (
            "mood",
            "hash",
            None,
            "the column is of type public.mood, which takes no made-up text. null or constant would",
        ),
        ("mood", "constant", "sad", "the column takes one of happy, not so, it's over, and not 'sad'"),
        ("tags", "fake_name", None, "the column is of type text[], which takes no made-up text. null or constant"),
        ("tags", "constant", "wrong", "the column is of type text[], which does not take 'wrong': said the server"),
        ("born", "fake_name", None, "the column is of type date, which"),
        ("born", "constant", "wrong", "the column is of type date, which does not take 'wrong'"),
        ("zip", "constant", "wrong", "the column is of type character varying(5), which does not"),
        ("upper", "constant", "x", "the column is unique, and"),
        ("Mixed", "constant", "x", "the column is unique, and"),
        ("camelCase", "constant", "x", "the column is unique, and"),
        ("whole", "null", None, "the column is generated. Name the columns that it is made of"),
        ("id", "constant", "1", "the column is an identity, into which nothing can be written"),
        ("country", "hash", None, "the column names rows of another table. null or constant would do"),
    ],
)
def test_rule_that_does_not_fit_names_what_would(column: str, method: str, value: str | None, why: str) -> None:
    (found,) = said(column, method, value)
    assert found.startswith(f"line 7: p.{column}: {method}: {why}")


@pytest.mark.parametrize(
    ("column", "method", "value"),
    [
        ("name", "fake_name", None),
        ("name", "constant", "A name"),
        ("email", "fake_email", None),
        ("ref", "constant", "x" * 20),
        ("ref", "null", None),
        ("login", "hash", None),
        ("code", "null", None),
        ("mood", "constant", "it's over"),
        ("tags", "constant", "{}"),
        ("case", "fake_email", None),
        ("born", "constant", "1970-01-01"),
        ("age", "constant", "30"),
        ("rate", "constant", "1.5"),
        ("works", "constant", "off"),
    ],
)
def test_rule_that_fits_is_followed(column: str, method: str, value: str | None) -> None:
    assert said(column, method, value) == []


ONE_ROW = [("login", "constant", "x"), ("Mixed", "constant", "x"), ("login", "fake_phone", None)]
NO_ROW = [*ONE_ROW, ("name", "null", None), ("zip", "null", None)]


@pytest.mark.parametrize(("rows", "fit"), [(None, []), (0, NO_ROW), (1, ONE_ROW), (2, [])])
def test_rule_that_could_only_collide_with_other_rows_fits_a_table_without(
    rows: int | None, fit: list[tuple[str, str, str | None]]
) -> None:
    assert [case for case in NO_ROW if not said(*case, rows=rows)] == fit


@pytest.mark.parametrize("text", ["p heap PARTITION BY LIST (id)", "p heap"])
def test_table_with_rows_in_others_below_it_is_never_taken_for_an_empty_one(text: str) -> None:
    below = {} if "PARTITION" in text else {"other.q": 'p heap INHERITS public."p", public.r WITH fillfactor=10'}
    catalogue = Catalogue.of({"table": {"public.p": text, "public.s": "p heap", **below}}, [], lambda _table: 0)
    assert (catalogue.rows("p"), catalogue.rows("s")) == (None, 0)


def test_view_and_table_of_another_schema_are_no_tables() -> None:
    assert said("name", "hash", table="v") == ["line 7: v is not a table. Name the tables that hold its rows"]
    assert said("name", "hash", table="q") == ["line 7: there is no table q"]


def test_lengths_are_those_of_what_is_made_up() -> None:
    hashed = "0" * 32
    made = {
        "hash": hashed,
        "fake_email": f"{hashed[:16]}@example.invalid",
        "fake_name": f"Person {hashed[:16]}",
        "fake_phone": "+999 12345678",
    }
    assert {method: len(text) for method, text in made.items()} == MADE_UP_LENGTHS
