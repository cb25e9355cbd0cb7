"""SQL text taken apart, so that each statement is sent alone, counted, and named by its line."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from flows.backup.pinned import encoded
from flows.backup.postgres import Connection
from opsdb.amounts import seconds
from opsdb.errors import StepFailedError
from opsdb.shown import shown

# As psql takes text apart: what is quoted or a comment ends no statement.
_PART = re.compile(
    r"(?P<whole>--[^\n]*|/\*.*?\*/|[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\""
    r"|(?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?P=tag))|;|[^-/eE'\"$;\\]+|.",
    re.DOTALL,
)
_NAME = re.compile(r"\w+(?:\s+(?:INTO|FROM|TABLE|ONLY))*(?:\s+[\w.\"]+)?", re.IGNORECASE)
_LONGEST = 3  # statements in one message
_HINT = (
    "Hint: a rule writes each row of its table again; delete rows of large tables in neutralize.sql first, or leave "
    "the rule out"
)
_WRAPPING = {"BEGIN", "COMMIT", "END", "START"}
"""Words around a script. Each of its statements is a transaction of its own here."""
_UNDOING = {"ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"}
"""Without a transaction around them, what they are to take back stays."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a text. `title` has its line, its first words, and none of its values."""

    title: str
    text: str


def split(text: str) -> Iterator[Statement]:
    """The statements of a text, without those that begin or end a transaction."""
    statement, line, began = "", 1, 1
    for match in _PART.finditer(text + ";"):
        part = match[0]
        comment = part.startswith(("--", "/*"))
        if part == ";":
            word = statement.split(maxsplit=1)[0].upper() if statement.strip() else ""
            if word and word not in _WRAPPING:
                named = _NAME.match(statement.strip())
                yield Statement(f"line {began}: {' '.join(named[0].split()) if named else word}", statement.strip())
            statement = ""
        elif comment:
            statement += " "
        else:
            if not statement.strip():
                began = line + part[: len(part) - len(part.lstrip())].count("\n")
            statement += part
        line += part.count("\n")


def refused_text(text: str) -> str | None:
    """Why a text cannot be sent as statements, with the line; None where it can, whatever the server says of it."""
    line = 1
    for match in _PART.finditer(text):
        part = match[0]
        opened = "/*" if text.startswith("/*", match.start()) and not match["whole"] else part
        if opened in ("'", '"', "/*"):
            return f"line {line}: {opened} opens what is never closed. Hint: inside a text, write a quote twice"
        if part == "\\":
            return f"line {line}: a backslash begins a command of psql's own. Hint: write it as SQL"
        line += part.count("\n")
    for one in split(text):
        words = one.text.upper().split()
        if words[0] in _UNDOING:
            return f"{one.title}: each statement is a transaction of its own here. Hint: leave that line out"
        if words[0] == "COPY" and not {"STDIN", "STDOUT"}.isdisjoint(words):
            return f"{one.title}: nobody is there to read from or write to. Hint: use INSERT, UPDATE or DELETE"
    return None


def send(db: Connection, statement: str | sql.Composable) -> int:
    """Execute one statement, whatever its text holds, in a transaction of its own; returns the rows that it changed.

    `db` has the settings of pin_settings(). Raises psycopg.Error.
    """
    text = statement if isinstance(statement, str) else statement.as_string(None)
    # prepared: the server takes no second statement behind it
    done = db.execute(encoded(db, text), prepare=True)
    return max(done.rowcount, 0)


class TimeLimits:
    """How long statements may take: each of them, and from now on all of them together."""

    def __init__(self, *, each_seconds: float, all_seconds: float) -> None:
        self._each, self._all = each_seconds, all_seconds
        self._until = time.monotonic() + all_seconds
        self._took: dict[str, float] = {}

    @contextmanager
    def kept(self, db: Connection, where: str) -> Iterator[None]:
        """Let the statement of the block take what is left. Raises StepFailedError that says which limit it reached."""
        began = time.monotonic()
        left = self._until - began
        if left <= 0:
            raise StepFailedError(self._used_up(f"before {where}"))
        limit = min(self._each, left)
        db.execute("SELECT pg_catalog.set_config('statement_timeout', %s, false)", (f"{limit * 1000 + 1:.0f}",))
        try:
            yield
        except psycopg.errors.QueryCanceled as error:
            self._note(where, began)
            if time.monotonic() - began < limit:  # somebody cancelled it by hand
                raise StepFailedError(f"{where}: {reason(error)}. Nothing was published") from error
            each = f"time limit of {self._each:g} s reached in {where}. Nothing was published. {_HINT}"
            raise StepFailedError(each if limit == self._each else self._used_up(f"in {where}")) from error
        self._note(where, began)

    def _note(self, where: str, began: float) -> None:
        self._took[where] = self._took.get(where, 0.0) + time.monotonic() - began

    def _used_up(self, where: str) -> str:
        longest = [one for one in sorted(self._took.items(), key=lambda one: -one[1]) if one[1] * 100 > self._all]
        named = "; ".join(f"{name}: {seconds(took)}" for name, took in longest[:_LONGEST])
        return (
            f"time limit of {self._all:g} s for all statements together reached {where}. The longest until then: "
            f"{named}. Nothing was published. {_HINT}"
        )


def reason(error: psycopg.Error) -> str:
    """What the server said, in a line and without the statement."""
    return shown(error.diag.message_primary or str(error).strip().partition("\n")[0])
