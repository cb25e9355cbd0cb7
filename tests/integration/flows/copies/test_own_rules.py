"""A team's own statements and rules for its copies: followed and counted, or nothing is published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_staging_copy import odoo_staging_copy
from opsdb.errors import PreflightError, StepFailedError
from tests.support.live_odoo import texts
from tests.support.postgres import databases

LiveOdoo = Callable[..., str]
ROBOT = "CREATE TABLE team_robot (active boolean, token text); INSERT INTO team_robot VALUES (true, 'robot-word')"
RULES = """\
- {table: res_partner, column: email, method: fake_email}
- {table: res_partner, column: name, method: fake_name}
- {table: res_partner, column: phone, method: fake_phone}
- {table: res_partner, column: comment, method: null}
- {table: res_users, column: password, method: constant, value: ""}
- {table: mail_mail, column: email_to, method: fake_email}
- {table: sms_sms, column: number, method: hash}
"""


def test_team_says_what_else_is_done_to_its_copies(postgres: str, live_odoo: LiveOdoo, own: Path) -> None:
    odoo = live_odoo(ROBOT + "; UPDATE res_partner SET email = 'anna@example.com' WHERE id = 2")
    (own / f"{odoo}.neutralize.sql").write_text("-- ours\nUPDATE team_robot\nSET active = false, token = NULL;\n")
    (own / f"{odoo}.anonymise.yaml").write_text(RULES)
    (own / "another.anonymise.yaml").write_text("nonsense")
    result = odoo_db_restore(f"{odoo}_copy", Path(odoo_db_backup(odoo)["file"]).name)
    done = result["neutralised"]
    assert done["rows_changed"][f"{odoo}.neutralize.sql, line 2: UPDATE team_robot"] == 1
    assert done["rows_changed"]["res_partner.email: fake_email"] == 50
    assert done["left"]["res_partner.email: fake_email"] == 0
    assert set(done["own_files"]) == {f"{odoo}.neutralize.sql", f"{odoo}.anonymise.yaml"}
    found = texts(postgres.format(database=f"{odoo}_copy"))
    personal = ("robot-word", "Anna", "+49 30", "+4912345", "Owes", "hash-of-admin", "anna@", "ben@")
    assert [word for word in personal if word in found] == []
    with psycopg.connect(postgres.format(database=f"{odoo}_copy")) as db:
        query = "SELECT p.email = m.email_to FROM res_partner p, mail_mail m WHERE p.id = 2 AND m.id = 1"
        assert db.execute(query).fetchone() == (True,)  # the same text is the same made-up one everywhere
        shapes = db.execute("SELECT name, phone, email FROM res_partner WHERE id = 1").fetchall()
        assert [len(text) for text in shapes[0]] == [23, 13, 32]


UNFIT = [
    ("- {table: res_partner, column: emial, method: fake_email}", "res_partner has no column emial"),
    ("- {table: res_parter, column: email, method: fake_email}", "there is no table res_parter"),
    ("- {table: res_partner, column: email, method: fake_mail}", "rule 1: method: expected .*, not 'fake_mail'"),
    ("- {table: a, column: b, method: constant}", "rule 1: it: value: required with method constant"),
    ('- {table: res_partner, column: "b\\" = 1 --", method: hash}', "res_partner has no column b. = 1 --"),
    ('- {table: "a\\nb", column: c, method: hash}', "rule 1: table: .*is not a name: a text of at most 63"),
    ("- {table: res_partner, column: email, method: hash}\n- {table: res_partner, column: email, method: null}",
     "line 2: res_partner.email has another rule already: line 1: hash. Hint: keep one"),
    ("- {table: a, column: b, method: constant, value: 1970-01-01}",
     "rule 1: value: '1970-01-01' is not a text: put what YAML reads as a number, a date"),
    ("- {table: a, column: b, method: hash, extra: 1}", "rule 1: extra: is unknown$"),
    ("- [unclosed", "line 1: not YAML|line 2: not YAML"),
]  # fmt: skip


def test_rule_that_does_not_fit_is_refused_before_anything_begins(
    postgres: str, live_odoo: LiveOdoo, own: Path
) -> None:
    odoo = live_odoo()
    dump = Path(odoo_db_backup(odoo)["file"]).name
    before = databases(postgres)
    for rules, said in UNFIT:
        (own / f"{odoo}.anonymise.yaml").write_text(rules)
        with pytest.raises(PreflightError, match=rf"{odoo}\.anonymise\.yaml.*({said})"):
            odoo_db_restore(f"{odoo}_copy", dump)
    assert databases(postgres) == before


KINDS = """
CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE TABLE team_person (id serial PRIMARY KEY, title jsonb NOT NULL, names json, tags text[], mood mood,
    mail varchar NOT NULL, code varchar UNIQUE, short varchar(16), made text GENERATED ALWAYS AS (upper(mail)) STORED);
CREATE UNIQUE INDEX ON team_person (lower(mail));
INSERT INTO team_person (title, names, tags, mood, mail, code, short) VALUES
    ('{"en_US": "Anna", "de_DE": "Die Anna", "fr_FR": "", "pl_PL": null}', '["Anna", {"a": 1}]', '{Anna}', 'sad',
     'anna@example.com', 'Anna1', '+49 30 1'),
    ('{}', '"Anna"', NULL, NULL, 'anna2@example.com', 'Anna2', ''), ('"Anna"', 'null', NULL, NULL, 'anna3', NULL, NULL);
"""
FITTING = """\
- {table: team_person, column: title, method: fake_name}
- {table: team_person, column: names, method: hash}
- {table: team_person, column: tags, method: constant, value: "{}"}
- {table: team_person, column: mood, method: constant, value: happy}
- {table: team_person, column: mail, method: fake_email}
- {table: team_person, column: code, method: hash}
- {table: team_person, column: short, method: fake_phone}
"""


def test_rules_follow_the_types_of_columns_and_each_translation_is_made_up(
    postgres: str, live_odoo: LiveOdoo, own: Path
) -> None:
    odoo = live_odoo(KINDS)
    (own / f"{odoo}.anonymise.yaml").write_text(FITTING)
    done = odoo_db_restore(f"{odoo}_copy", Path(odoo_db_backup(odoo)["file"]).name)["neutralised"]
    assert done["rows_changed"]["team_person.title: fake_name"] == 2
    with psycopg.connect(postgres.format(database=f"{odoo}_copy")) as db:
        rows = db.execute("SELECT title, names, tags, mood, short FROM team_person ORDER BY id").fetchall()
        text = str(db.execute("SELECT t::text FROM team_person t").fetchall()).lower()
    assert "anna" not in text
    title = rows[0][0]
    assert [title["fr_FR"], title["pl_PL"], rows[1][0]] == ["", None, {}]
    assert [value.startswith("Person ") for value in (title["en_US"], title["de_DE"], rows[2][0])] == [True] * 3
    assert title["en_US"] == rows[2][0] != title["de_DE"]
    assert [len(rows[0][1]), len(rows[1][1]), rows[2][1]] == [32, 32, None]
    assert (rows[0][2], rows[0][3]) == ([], "happy")
    assert [len(row[4] or "") for row in rows] == [13, 0, 0]


REFUSED = {
    ("title", "null"): "the column is NOT NULL. constant, hash",
    ("tags", "hash"): r"the column is of type text\[\], which takes no made-up text. null or constant would do",
    ("mood", "fake_name"): "the column is of type public.mood, which",
    ("code", "constant"): "the column is unique, and each",
    ("mail", "constant"): "the column is unique, and each",
    ("short", "hash"): "the column takes 16 characters, and hash makes 32",
    ("made", "hash"): "the column is generated",
}


def test_rule_that_its_column_refuses_is_named_before_anything_begins(
    postgres: str, live_odoo: LiveOdoo, own: Path, folder: Path
) -> None:
    odoo = live_odoo(KINDS)

    def refused(column: str, method: str) -> str:
        """Write a file with that rule; returns what is said of it."""
        rule = f"- table: team_person\n  column: {column}\n  method: {method}\n"
        rule += "  value: x\n" if method == "constant" else ""
        fits = "# ours\n- {table: team_person, column: names, method: hash}\n\n"
        (own / f"{odoo}.anonymise.yaml").write_text(fits + rule)
        said = REFUSED[column, method]
        return rf"{odoo}\.anonymise\.yaml, line 4: team_person\.{column}: {method}: {said}"

    before = databases(postgres)
    for case in REFUSED:
        with pytest.raises(PreflightError, match=refused(*case)):
            odoo_staging_copy(f"{odoo}_copy", odoo, live=True)
    assert not folder.exists()  # production was not backed up for nothing
    dump = Path(odoo_db_backup(odoo)["file"]).name
    for case in REFUSED:
        with pytest.raises(PreflightError, match=refused(*case)):
            odoo_db_restore(f"{odoo}_copy", dump)
    assert databases(postgres) == before


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE team_robbot SET active = false", 'line 1: UPDATE team_robbot: relation "team_robbot" does not exist'),
        (
            "COPY team_robot TO PROGRAM 'cat'",
            "line 1: COPY team_robot: permission denied to COPY to or from an external",
        ),
        (
            "UPDATE res_partner SET comment = 'x'; COMMIT; UPDATE res_partner SET nonsense = 1",
            'line 1: UPDATE res_partner: column "nonsense" of relation .* does not exist. Nothing was published',
        ),
        ("CREATE TABLE more (a int)", "the restored database is not what was dumped: .*more is there as well"),
        ("UPDATE ir_cron SET active = true; SELECT 1", None),
    ],
    ids=["wrong", "of superusers", "wrong in the middle", "another table", "undone by the room"],
)
def test_teams_statement_changes_rows_and_nothing_else(
    postgres: str, live_odoo: LiveOdoo, own: Path, statement: str, said: str | None
) -> None:
    odoo = live_odoo(ROBOT)
    dump = Path(odoo_db_backup(odoo)["file"]).name
    (own / f"{odoo}.neutralize.sql").write_text(statement)
    before = databases(postgres)
    if said is None:
        assert odoo_db_restore(f"{odoo}_copy", dump)["neutralised"]["left"]["scheduled jobs"] == 0
        return
    with pytest.raises(StepFailedError, match=said):
        odoo_db_restore(f"{odoo}_copy", dump)
    assert databases(postgres) == before


UNSENT = [
    ("SELECT 1;\n\\\\copy team_robot TO 'x'\n", "line 2: a backslash begins a command of psql's own"),
    (
        "BEGIN;\nUPDATE team_robot SET active = true;\nROLLBACK;",
        "line 3: ROLLBACK: each statement is a transaction",
    ),
    ("UPDATE team_robot SET token = 'it's over';", "line 1: ' opens what is never closed"),
]


def test_statements_that_cannot_be_sent_are_refused_before_anything_begins(
    postgres: str, live_odoo: LiveOdoo, own: Path
) -> None:
    odoo = live_odoo(ROBOT)
    dump = Path(odoo_db_backup(odoo)["file"]).name
    before = databases(postgres)
    for text, said in UNSENT:
        (own / f"{odoo}.neutralize.sql").write_text(text)
        with pytest.raises(PreflightError, match=rf"{odoo}\.neutralize\.sql, {said}"):
            odoo_db_restore(f"{odoo}_copy", dump)
    assert databases(postgres) == before


@pytest.mark.parametrize("name", ["anonymize.yaml", "anonymise.yml", "neutralise.sql"])
def test_file_with_nearly_the_right_name_is_refused(live_odoo: LiveOdoo, own: Path, name: str) -> None:
    odoo = live_odoo()
    dump = Path(odoo_db_backup(odoo)["file"]).name
    (own / f"{odoo}.{name}").write_text("")
    with pytest.raises(PreflightError, match=f"{odoo}.{name} would not be followed. Hint: rename it to"):
        odoo_db_restore(f"{odoo}_copy", dump)


def test_file_that_others_may_write_is_refused(live_odoo: LiveOdoo, own: Path) -> None:
    odoo = live_odoo()
    dump = Path(odoo_db_backup(odoo)["file"]).name
    (own / f"{odoo}.neutralize.sql").write_text("SELECT 1")
    (own / f"{odoo}.neutralize.sql").chmod(0o666)
    with pytest.raises(PreflightError, match=r"neutralize\.sql is not safe: everybody may write"):
        odoo_db_restore(f"{odoo}_copy", dump)
