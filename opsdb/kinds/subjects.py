"""What a run is called: by what it does to what, such as `odoo_prod · backup`.

Each kind declares a pattern with `${params.x}` for values of its parameters. `ops deploy` keeps it in `ops.kinds`, so
that whoever starts or sees a run can name it: `docs/decisions/0035-names.md`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Text, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Field, col

from opsdb.schema import Table, json_column, time_column
from opsdb.shown import shown

REFERENCE = re.compile(r"\$\{params\.([^}\n]*)\}")
LONGEST = 80
"""Characters of a name: a line of a list has room for them."""
SEPARATOR = " · "
SECRET_LIKE = re.compile(r"passw|passphrase|secret|token|api_?key|credential", re.IGNORECASE)
"""Names of parameters whose values do not belong in a list."""


class Kind(Table, table=True):
    """What runs of a kind are called, as `ops deploy` last read it."""

    __tablename__ = "kinds"

    kind: str = Field(sa_column=Column(Text, primary_key=True))
    subject: str = Field(sa_column=Column(Text, nullable=False))
    # of the parameters that the subject names
    defaults: dict[str, Any] = Field(sa_column=json_column(null=False))
    updated_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The pattern of a kind, and the values of its parameters where a run names none."""

    kind: str
    pattern: str
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def name(self, params: Mapping[str, Any]) -> str:
        """What a run with these parameters is called: one line of at most `LONGEST` characters, cut at a word."""
        values = {**self.defaults, **params}
        text = REFERENCE.sub(lambda match: _words(values.get(match[1])), self.pattern)
        parts = [shown(" ".join(part.split())) for part in text.split(SEPARATOR)]
        return _cut(SEPARATOR.join(part for part in parts if part) or self.kind)


def subject_of(kind: str, declared: str | None, schema: Mapping[str, Any]) -> Subject:
    """The subject of a kind by what it declares, or else by its main parameters: those that must be given.

    What it declares of such parameters is left out. `schema` is that of its parameters.
    """
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties") or {}
    required = [name for name in properties if name in (schema.get("required") or ())]
    main = ", ".join(f"${{params.{name}}}" for name in required if not SECRET_LIKE.search(name))
    pattern = declared or (f"{main}{SEPARATOR}{kind}" if main else kind)
    pattern = REFERENCE.sub(lambda match: "" if SECRET_LIKE.search(match[1]) else match[0], pattern)
    named = REFERENCE.findall(pattern)
    defaults = {name: properties[name]["default"] for name in named if "default" in properties.get(name, {})}
    return Subject(kind=kind, pattern=pattern, defaults=defaults)


def name_of_run(db: Connection, kind: str, params: Mapping[str, Any]) -> str | None:
    """What a run of a kind with these parameters is called; None for a kind that was never deployed."""
    row = db.execute(select(Kind).where(col(Kind.kind) == kind)).one_or_none()
    if row is None:
        return None
    return Subject(kind=kind, pattern=row.subject, defaults=row.defaults).name(params)


def write_subjects(db: Connection, subjects: Mapping[str, Subject], *, keep: bool) -> None:
    """Note the subjects by kind. Those of other kinds are forgotten unless `keep`: where it is not known which are."""
    for kind, one in subjects.items():
        made = insert(Kind).values(kind=kind, subject=one.pattern, defaults=dict(one.defaults))
        now = {
            "subject": made.excluded.subject,
            "defaults": made.excluded.defaults,
            "updated_at": func.clock_timestamp(),
        }
        differs = (col(Kind.subject) != made.excluded.subject) | (col(Kind.defaults) != made.excluded.defaults)
        db.execute(made.on_conflict_do_update(index_elements=[col(Kind.kind)], set_=now, where=differs))
    if not keep:
        db.execute(delete(Kind).where(col(Kind.kind).not_in(subjects)))


def _words(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items())
    return str(value)


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    whole = text[: LONGEST - 1]
    head = whole if text[LONGEST - 1] == " " else whole.rpartition(" ")[0] or whole
    return f"{head.rstrip(' ,·')}…"
