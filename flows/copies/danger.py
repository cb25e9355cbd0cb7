"""One thing that must not be in a copy: how it is found in a table, and how it is ended."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from flows.copies.columns import Columns

BASE = {"ir_config_parameter", "ir_cron", "ir_mail_server"}
"""Each Odoo has these: where one is missing, it lies elsewhere, and nobody can look for what is in it."""


@dataclass(frozen=True, slots=True)
class Danger:
    """Rows of one table that must not be in a copy. All text is constant, or a quoted name."""

    name: str
    """Of its kind: several may have one."""
    table: str
    columns: tuple[str, ...]
    """What it needs. A column that a module adds is missing where that is not installed."""
    where: str
    """Finds the rows."""
    ended_by: str | None
    """What they are set to; None where they are deleted."""
    core: bool = True
    """Whether the table always has the columns: without them nobody can tell whether there are such rows."""

    @property
    def count(self) -> sql.Composed:
        """The query of their number."""
        return sql.SQL("SELECT count(*) FROM {} WHERE {}").format(self._table, sql.SQL(self.where))

    @property
    def end(self) -> sql.Composed:
        """The statement that ends them."""
        if self.ended_by is None:
            return sql.SQL("DELETE FROM {} WHERE {}").format(self._table, sql.SQL(self.where))
        words = sql.SQL("UPDATE {} SET {} WHERE {}")
        return words.format(self._table, sql.SQL(self.ended_by), sql.SQL(self.where))

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return ".".join((self.table, *self.columns[:1]))

    @property
    def _table(self) -> sql.Identifier:
        return sql.Identifier("public", self.table)


def missing_for(danger: Danger, there: Columns) -> str | None:
    """None where a danger can be looked for; else what is missing, nothing for a module that is not installed."""
    if danger.table not in there:
        return f"there is no table public.{danger.table}" if danger.table in BASE else ""
    columns = there[danger.table]
    if columns is None:
        return f"{danger.table} is not a table"
    if missing := [one for one in danger.columns if one not in columns]:
        return f"{danger.table} has no column {', '.join(missing)}" if danger.core else ""
    return None
