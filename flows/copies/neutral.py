"""A restored Odoo made into a copy that is safe to use: what Odoo and the room do to it, and the check that decides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql

from flows.backup.attachments import read_names
from flows.backup.contents import summary
from flows.backup.postgres import Connection
from flows.copies.anonymise import Anonymising, Rule
from flows.copies.catalogue import Catalogue
from flows.copies.columns import Column, Columns, read_columns
from flows.copies.danger import missing_for
from flows.copies.dangers import DUMMY_HOST, KINDS, dangers_in
from flows.copies.fitting import misfits
from flows.copies.literals import refusal_of_literal
from flows.copies.neutralised import Neutralised
from flows.copies.odoo_sql import ASK_SECONDS
from flows.copies.own_rules import OwnRules
from flows.copies.sending import Sending
from flows.copies.statements import Statement, TimeLimits, reason, split
from flows.engine.active_run import current_run
from flows.restore.change import CHANGE_SECONDS
from flows.restore.load import ANALYZE_SECONDS
from opsdb.errors import StepFailedError

NEUTRALISE_SECONDS = ASK_SECONDS + CHANGE_SECONDS + ANALYZE_SECONDS
STATEMENT_SECONDS = 1800.0
"""What each statement may take, a team's rule for one. All of them together have CHANGE_SECONDS."""
LOCAL_URL = "http://localhost:8069"
"""What a new Odoo takes for its address."""
MODULES = "ir_module_module"
"""The table, in schema public, by which an Odoo is known."""
# Odoo finds its tables by the search path of its role: one of a schema before public is used instead.
_ELSEWHERE = """
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('public', 'pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
    AND c.relkind NOT IN ('i', 'I', 'S', 't', 'c') AND c.relname::pg_catalog.text = ANY (%s) ORDER BY 1
"""
# They hold old rows: in the order in which they were made, for one may read another.
_COMPUTED = """
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND c.relispopulated ORDER BY c.oid
"""
# Its password is a live one, and a foreign table writes to the same server as the original's.
_MAPPINGS = "SELECT usename, srvname FROM pg_catalog.pg_user_mappings ORDER BY 1, 2"
_CORRECT = "correct that file in the folder `copies` of OPS_HOME; a statement may change rows, and nothing else"
_OF_ODOO = re.compile(r'Odoo, line \d+: .* (?:"?public"?\.)?"?(\w+)"?')
_DUMMY = f"active AND smtp_host = '{DUMMY_HOST}'"
_ADD_DUMMY = f"""
INSERT INTO public.ir_mail_server (name, smtp_host, smtp_port, smtp_encryption, smtp_authentication, active)
SELECT 'neutralised: sends nothing', '{DUMMY_HOST}', 1025, 'none', 'login', true
WHERE NOT EXISTS (SELECT FROM public.ir_mail_server WHERE {_DUMMY})
"""  # noqa: S608 - constants
_BANNERS = """
UPDATE public.ir_ui_view SET active = true
WHERE key IN ('web.neutralize_banner', 'website.neutralize_ribbon') AND active IS DISTINCT FROM true
"""
# Workers of an Odoo that served another database of this name compare where it stands, and load their registry again.
_REGISTRY = """
SELECT pg_catalog.setval(c.oid::pg_catalog.regclass,
    pg_catalog.nextval(c.oid::pg_catalog.regclass) + 1000000 + (1000000 * pg_catalog.random())::pg_catalog.int8)
FROM pg_catalog.pg_class c WHERE c.relnamespace = 'public'::pg_catalog.regnamespace AND c.relkind = 'S'
    AND c.relname = 'base_registry_signaling'
"""
_SET = "UPDATE public.ir_config_parameter SET value = {value} WHERE key = {key}"
_ADD = """
INSERT INTO public.ir_config_parameter (key, value) SELECT {key}, {value}
WHERE NOT EXISTS (SELECT FROM public.ir_config_parameter WHERE key = {key})
"""


class Neutralising:
    """The change that neutralises a restored database, if it is an Odoo's."""

    def __init__(self, database: str, how: str, *, own: OwnRules, base_url: str = "", odoo_sql: str = "") -> None:
        self.about = (
            f"publish {database} {how}; of an Odoo, count what could still act or give away, and publish it only if "
            "nothing is left"
        )
        self.result: Neutralised | None = None
        """None before it was made, and for a database that is not an Odoo's."""
        self._done = Neutralised()
        self._odoo_sql = odoo_sql
        self._own = own
        self._anonymising = Anonymising(own.rules)
        self._named: set[str] = set()
        self._parameters = {
            "database.uuid": str(uuid4()),
            "database.secret": str(uuid4()),
            "database.is_neutralized": "true",
            "web.base.url": base_url or LOCAL_URL,
            "web.base.url.freeze": "True",
        }

    def told(self) -> dict[str, Any] | None:
        """For the result of a run; None where nothing was neutralised."""
        return self.result.told(self._own.files) if self.result else None

    def make(self, db: Connection) -> bool:
        """Odoo's statements, the team's, then the room's own, each by itself, and the team's rules."""
        odoo = _is_odoo(db)
        _check_schema(db, [MODULES, *(one.table for one in dangers_in({}))] if odoo else [MODULES])
        if not odoo:
            return False
        self.result = self._done
        self._named = read_names(db) or set()
        # a manifest of an older format had no columns to compare them with
        refusal = partial(refusal_of_literal, db, own_types=True)
        if self._own.rules and (wrong := misfits(self._own.rules, Catalogue.read(db), refusal)):
            raise StepFailedError(f"{self._own.rules_file}, {summary(wrong)}. Nothing was published")
        limits = TimeLimits(each_seconds=STATEMENT_SECONDS, all_seconds=CHANGE_SECONDS)
        sending = Sending(db, limits, self._done)
        db.execute("SET search_path = public, pg_temp")  # as Odoo names its tables
        for one in split(self._odoo_sql):
            sending.try_one(Statement(f"Odoo, {one.title}", one.text))
        there = read_columns(db)
        for one in self._own.statements:
            sending.send_one(one, hint=_CORRECT)
        for danger in dangers_in(there):
            if missing_for(danger, there) is None:
                sending.try_one(Statement(danger.name, danger.end.as_string(None)), at=danger.place)
        for one in self._additions(there, db):
            sending.try_one(one)
        self._follow_rules(sending, there)
        for (name,) in db.execute(_COMPUTED).fetchall():
            refresh = Statement(f"materialized view {name}", f"REFRESH MATERIALIZED VIEW {name}")
            sending.send_one(refresh, hint="it still holds old rows; drop it in the source, or correct its query")
        for title, why in self._done.failed.items():
            current_run().event(f"refused while neutralising: {title}: {why}", level="warning")
        return True

    def _follow_rules(self, sending: Sending, there: Columns) -> None:
        written = set[str]()
        for rule in self._own.rules:
            change = self._anonymising.change(rule, _column(rule, there))
            where = f"{self._own.rules_file.name}, {rule.place}{rule.title}"
            if rule.table in written:  # else what each rule leaves would be one more copy of the table on the disk
                vacuum = sql.SQL("VACUUM {}").format(sql.Identifier("public", rule.table))
                sending.send_one(Statement(where, vacuum.as_string(None)), hint=_CORRECT)
            sending.send_one(Statement(rule.title, change.as_string(None)), where=where, hint=_CORRECT)
            written.add(rule.table)

    def _additions(self, there: Columns, db: Connection) -> Iterator[Statement]:
        """What a copy gets, or loses, besides rows of dangers."""
        if "ir_mail_server" in there:
            yield Statement("a mail server that sends nothing", _ADD_DUMMY)
        if "ir_ui_view" in there:
            yield Statement("banners", _BANNERS)
        yield Statement("registries of running workers", _REGISTRY)
        for user, server in db.execute(_MAPPINGS).fetchall():
            role = sql.SQL("PUBLIC") if user == "public" else sql.Identifier(str(user))
            drop = sql.SQL("DROP USER MAPPING FOR {} SERVER {}").format(role, sql.Identifier(str(server)))
            yield Statement(f"user mapping of server {server}", drop.as_string(None))
        for key, value in self._parameters.items():
            for words in (_SET, _ADD):
                statement = sql.SQL(words).format(key=sql.Literal(key), value=sql.Literal(value))
                yield Statement(key, statement.as_string(None))

    def _refused_by_nobody_else(self, there: Columns) -> list[str]:
        """A phrase for each statement of Odoo's that was refused, for a table of which the room knows no danger."""
        known = {one.table for one in dangers_in(there)}
        refused = self.result.failed if self.result else {}
        found = {title: _OF_ODOO.fullmatch(title) for title in refused}
        return [
            f"{title} was refused: {refused[title]}"
            for title, match in found.items()
            if match and match[1] in there and match[1] not in known
        ]

    def prove(self, db: Connection) -> None:
        """Count all dangers, whatever Odoo and the statements said. Raises StepFailedError unless none is left."""
        if self.result is None:
            return
        self.result.unnamed = self._named - (read_names(db) or set())
        there = read_columns(db)
        wrong = list(
            _counted(db, self.result, "user mappings", sql.SQL("SELECT count(*) FROM pg_catalog.pg_user_mappings"))
        )
        for danger in dangers_in(there):
            missing = missing_for(danger, there)
            if missing is None:
                wrong += _counted(db, self.result, danger.name, danger.count, at=f" in {danger.place}")
            elif missing:
                wrong.append(f"cannot check {danger.name}: {missing}")
        wrong += self._refused_by_nobody_else(there)
        self.result.not_installed = sorted(KINDS - self.result.checked.keys())
        if "ir_mail_server" in there:
            query = f"SELECT (count(*) = 0)::int FROM public.ir_mail_server WHERE {_DUMMY}"  # noqa: S608 - constants
            wrong += _counted(
                db, self.result, "its own mail server", sql.SQL(query), "it lacks a mail server that sends nothing"
            )
        for key, value in self._parameters.items():
            query = "SELECT (count(*) <> 1 OR NOT bool_and(value = {value}))::int"
            query += " FROM public.ir_config_parameter WHERE key = {key}"
            found = sql.SQL(query).format(key=sql.Literal(key), value=sql.Literal(value))
            wrong += _counted(db, self.result, key, found, f"{key} is not what the room has set")
        for rule in self._own.rules:
            wrong += _counted(db, self.result, rule.title, self._anonymising.left(rule, _column(rule, there)))
        if wrong:
            raise StepFailedError(
                f"the copy is not safe to use, and was not published: {summary(wrong)}. Hint: a module of your own may "
                "have changed these tables; add statements for them to its neutralize.sql (docs/backups.md, "
                "Copies that are safe to use)"
            )


def _check_schema(db: Connection, tables: list[str]) -> None:
    """Raise StepFailedError where a table of an Odoo lies in another schema than public, where nobody would look."""
    if found := [str(name) for (name,) in db.execute(_ELSEWHERE.encode(), (tables,)).fetchall()]:
        raise StepFailedError(
            f"tables of an Odoo lie outside of schema public: {summary(found)}. The room looks for them there "
            "alone, and published nothing. Hint: move them to public, or rename what is not Odoo's"
        )


def _is_odoo(db: Connection) -> bool:
    row = db.execute("SELECT pg_catalog.to_regclass(%s) IS NOT NULL", (f"public.{MODULES}",)).fetchone()
    return bool(row and row[0])


def _column(rule: Rule, there: Columns) -> Column:
    return (there.get(rule.table) or {}).get(rule.column, Column())


def _counted(
    db: Connection, done: Neutralised, name: str, query: sql.SQL | sql.Composed, told: str = "", *, at: str = ""
) -> Iterable[str]:
    """A phrase where any is left, or where the server cannot tell."""
    try:
        row = db.execute(query).fetchone()
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        return [f"cannot check {name}{at}: {reason(error)}"]
    left = int(str(row[0])) if row else 0
    done.checked[name] = done.checked.get(name, 0) + left
    return [told or f"{name}: {left} left{at}"] if left else []
