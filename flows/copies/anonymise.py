"""Rules by which a copy's personal data becomes made up: a table, a column, and a method each."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Annotated, Literal

from psycopg import sql
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from blocks.form_words import InWords
from flows.copies.columns import Column

Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,63}$"), InWords("a name: a text of at most 63 characters")]
Method = Literal["null", "constant", "hash", "fake_email", "fake_name", "fake_phone"]

# By a word of one run: the same text becomes the same one in each column, and nobody finds it by trying.
_MADE_UP: dict[str, tuple[str, str]] = {
    "hash": ("{hash}", "^[0-9a-f]{32}$"),
    "fake_email": ("substr({hash}, 1, 16) || '@example.invalid'", "^[0-9a-f]{16}@example[.]invalid$"),
    "fake_name": ("'Person ' || substr({hash}, 1, 16)", "^Person [0-9a-f]{16}$"),
    "fake_phone": (
        "'+999 ' || lpad((('x' || substr({hash}, 1, 8))::bit(32)::bigint % 100000000)::text, 8, '0')",
        "^[+]999 [0-9]{8}$",
    ),
}


MADE_UP_LENGTHS: dict[str, int] = {"hash": 32, "fake_email": 32, "fake_name": 23, "fake_phone": 13}
"""In characters."""
_OBJECT = (
    "CASE jsonb_typeof({column}::jsonb) WHEN 'object' THEN {column}::jsonb ELSE jsonb_build_object('', {column}) END"
)
_EACH = f"""(
SELECT CASE jsonb_typeof({{column}}::jsonb) WHEN 'object' THEN ops_made ELSE ops_made -> '' END FROM (
    SELECT jsonb_object_agg(ops_key, to_jsonb(CASE WHEN nullif(ops_value, '') IS NULL THEN ops_value
        ELSE ({{new}})::text END)) AS ops_made
    FROM jsonb_each_text({_OBJECT}) AS e (ops_key, ops_value)) AS m)"""  # noqa: S608 - constants
_ANY = f"EXISTS (SELECT FROM jsonb_each_text({_OBJECT}) AS e (ops_key, ops_value) WHERE {{where}})"


class Rule(BaseModel):
    """What a column gets. Empty texts stay as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: Name
    column: Name
    method: Annotated[Method, BeforeValidator(lambda given: "null" if given is None else given)]
    value: (
        Annotated[
            str,
            Field(pattern=r"^[^\x00]*$"),
            InWords("a text: put what YAML reads as a number, a date, yes or no in quotes"),
        ]
        | None
    ) = None
    _line: int = PrivateAttr(0)

    @model_validator(mode="after")
    def _only_a_constant_has_a_value(self) -> Rule:
        if (self.method == "constant") != (self.value is not None):
            raise ValueError("value: required with method constant, not allowed with others")
        return self

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.table}.{self.column}: {self.method}"

    @property
    def place(self) -> str:
        """Its line in the file, before what is said of it; empty for one that is in none."""
        return f"line {self._line}: " if self._line else ""

    def at(self, line: int) -> Rule:
        """The same rule, in that line."""
        placed = self.model_copy()
        placed._line = line
        return placed


class Anonymising:
    """The statements of rules, with made-up texts of this run's own.

    Of a column of JSON, a translated name for instance, each value of the object becomes made up, or the whole where it
    is not an object.
    """

    def __init__(self, rules: Collection[Rule]) -> None:
        self.rules = list(rules)
        self._word = secrets.token_hex(16)

    def change(self, rule: Rule, found: Column) -> sql.Composed:
        """Compose the statement that follows a rule, whose column was `found` as it is."""
        column, json = sql.Identifier(rule.column), found.kind == "json"
        new = self._new(rule, sql.SQL("ops_value") if json else column)
        if json and rule.method != "null":
            new = sql.SQL(_EACH).format(column=column, new=new)
        return sql.SQL("UPDATE {} SET {} = {} WHERE {}").format(
            self._table(rule), column, new, self._not_yet(rule, found, changed=False)
        )

    def left(self, rule: Rule, found: Column) -> sql.Composed:
        """Compose the query of how many rows do not follow it."""
        where = self._not_yet(rule, found, changed=True)
        return sql.SQL("SELECT count(*) FROM {} WHERE {}").format(self._table(rule), where)

    @staticmethod
    def _table(rule: Rule) -> sql.Identifier:
        return sql.Identifier("public", rule.table)

    def _new(self, rule: Rule, old: sql.Composable) -> sql.Composable:
        if rule.method == "null":
            return sql.SQL("NULL")
        if rule.method == "constant":
            return sql.Literal(rule.value)
        hashed = sql.SQL("md5({} || {}::text)").format(sql.Literal(self._word), old)
        return sql.SQL(_MADE_UP[rule.method][0]).format(hash=hashed)

    @staticmethod
    def _not_yet(rule: Rule, found: Column, *, changed: bool) -> sql.Composed:
        """The condition of rows that do not follow it; before it is followed, made-up texts are texts as others."""
        column, json = sql.Identifier(rule.column), found.kind == "json"
        if rule.method == "null":
            return sql.SQL("{} IS NOT NULL").format(column)
        text: sql.Composable = sql.SQL("ops_value") if json else sql.SQL("{}::text").format(column)
        where = sql.SQL("nullif({}, '') IS NOT NULL").format(text)
        if rule.method == "constant":
            value: sql.Composable = sql.Literal(rule.value)
            if not json:  # as the server writes it: `off` of a boolean is `false`
                value = sql.SQL("CAST({} AS {})::text").format(value, sql.SQL(found.type))
            where = sql.SQL("{} AND {} <> {}").format(where, text, value)
        elif changed:
            where = sql.SQL("nullif({}, '') !~ {}").format(text, sql.Literal(_MADE_UP[rule.method][1]))
        return sql.SQL(_ANY).format(column=column, where=where) if json else where
