"""What a team's module may add that no Odoo has: a copy keeps none of its secrets, and its rules are followed there."""

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
SECRETS = """
CREATE DOMAIN word AS text; CREATE DOMAIN needed_word AS word NOT NULL; CREATE DOMAIN document AS jsonb;
CREATE TABLE team_vault (api_key char(16), shared_key word, app_secret needed_word, private_keys text[] NOT NULL,
    api_keys varchar[], client_secret document, db_credentials document NOT NULL, bot_token name);
INSERT INTO team_vault VALUES ('vault-word-1', 'vault-word-2', 'vault-word-3', '{vault-word-4}', '{vault-word-5}',
    '{"a": "vault-word-6"}', '{"a": "vault-word-7"}', 'vault-word-8'), (NULL, NULL, '', '{}', '{}', '{}', '{}', NULL);
"""
VIEWS = """
CREATE MATERIALIZED VIEW team_mails AS SELECT id, email FROM res_partner;
CREATE MATERIALIZED VIEW "Team Keys" AS SELECT upper(email) AS mail, (SELECT string_agg(api_key, ' ') FROM team_shop)
    FROM team_mails;
CREATE MATERIALIZED VIEW team_later AS SELECT email FROM team_mails WITH NO DATA;
"""
ODD = """
CREATE DOMAIN mail AS varchar CHECK (VALUE LIKE '%@%'); CREATE DOMAIN titles AS jsonb;
CREATE TABLE "Odd Names" ("camelCase" text UNIQUE, "order" text, "say it. twice" text);
INSERT INTO "Odd Names" VALUES ('Anna 1', 'Anna 2', 'Anna 3');
CREATE TABLE "order" (email mail NOT NULL, title titles, id bigint GENERATED ALWAYS AS IDENTITY);
INSERT INTO "order" VALUES ('anna@example.com', '{"en_US": "Anna"}'), ('anna2@example.com', '"Anna"');
CREATE TABLE team_log (id int NOT NULL, mail text) PARTITION BY RANGE (id);
CREATE TABLE team_log_1 PARTITION OF team_log FOR VALUES FROM (0) TO (10);
CREATE TABLE team_log_2 PARTITION OF team_log DEFAULT;
INSERT INTO team_log VALUES (1, 'Anna'), (11, 'Anna');
CREATE TABLE team_base (id int, mail text); CREATE TABLE team_child () INHERITS (team_base);
INSERT INTO team_child VALUES (1, 'Anna');
CREATE TABLE team_code (code text PRIMARY KEY);
CREATE TABLE team_uses (code text REFERENCES team_code ON UPDATE CASCADE);
INSERT INTO team_code VALUES ('Anna'); INSERT INTO team_uses VALUES ('Anna');
CREATE TABLE team_none (code text NOT NULL UNIQUE, born date NOT NULL);
"""
RULES = """\
- {table: "Odd Names", column: camelCase, method: constant, value: same}
- {table: "Odd Names", column: order, method: hash}
- {table: "Odd Names", column: say it. twice, method: fake_name}
- {table: order, column: email, method: fake_email}
- {table: order, column: title, method: fake_name}
- {table: team_log, column: mail, method: hash}
- {table: team_base, column: mail, method: "null"}
- {table: team_code, column: code, method: constant, value: same}
- {table: team_none, column: code, method: constant, value: same}
- {table: team_none, column: born, method: "null"}
"""


def restored(odoo: str) -> dict[str, int]:
    """Copy it; returns the rows that were changed."""
    done = odoo_db_restore(f"{odoo}_copy", Path(odoo_db_backup(odoo)["file"]).name)["neutralised"]
    assert done["refused"] == {}
    rows: dict[str, int] = done["rows_changed"]
    return rows


@pytest.mark.promise(12)
def test_copy_keeps_no_secret_whatever_type_its_column_has(postgres: str, live_odoo: LiveOdoo, folder: Path) -> None:
    assert folder
    odoo = live_odoo(SECRETS)
    assert restored(odoo)["keys in other tables"] == 8 + 2
    assert "vault-word" not in texts(postgres.format(database=f"{odoo}_copy"))


@pytest.mark.promise(12)
def test_materialized_views_keep_no_row_of_before(postgres: str, live_odoo: LiveOdoo, own: Path) -> None:
    odoo = live_odoo(VIEWS)
    (own / f"{odoo}.anonymise.yaml").write_text("- {table: res_partner, column: email, method: fake_email}")
    restored(odoo)
    copy = postgres.format(database=f"{odoo}_copy")
    found = texts(copy)
    assert [word for word in ("shop-word", "anna1@", "ANNA1@") if word in found] == []
    with psycopg.connect(copy) as db:
        query = "SELECT count(*) FROM team_mails WHERE email LIKE '%@example.invalid'"
        assert db.execute(query).fetchone() == db.execute("SELECT count(*) FROM res_partner").fetchone()
        populated = "SELECT relispopulated FROM pg_class WHERE relname = 'team_later'"
        assert db.execute(populated).fetchone() == (False,)


def test_materialized_view_that_cannot_be_made_again_stops_the_copy(
    postgres: str, live_odoo: LiveOdoo, folder: Path
) -> None:
    assert folder
    odoo = live_odoo("CREATE MATERIALIZED VIEW team_share AS SELECT 1 / count(*) AS share FROM ir_cron WHERE active;")
    with psycopg.connect(postgres.format(database=odoo)) as db:
        db.execute("DELETE FROM ir_cron WHERE id = 1")  # the job that a copy keeps
    dump, before = Path(odoo_db_backup(odoo)["file"]).name, databases(postgres)
    with pytest.raises(StepFailedError, match=r"materialized view public\.team_share: division by zero\. Nothing was"):
        odoo_db_restore(f"{odoo}_copy", dump)
    assert databases(postgres) == before


def test_rules_are_followed_in_tables_of_any_kind(postgres: str, live_odoo: LiveOdoo, own: Path) -> None:
    odoo = live_odoo(ODD)
    (own / f"{odoo}.anonymise.yaml").write_text(RULES)
    rows = restored(odoo)
    assert rows["Odd Names.say it. twice: fake_name"] == 1
    assert (rows["order.title: fake_name"], rows["team_log.mail: hash"], rows["team_base.mail: null"]) == (2, 2, 1)
    with psycopg.connect(postgres.format(database=f"{odoo}_copy")) as db:
        odd = db.execute('SELECT * FROM "Odd Names", "order", team_log, team_base, team_uses').fetchall()
        assert "anna" not in str(odd).lower()
        assert db.execute("SELECT code FROM team_uses").fetchall() == [("same",)]


UNFIT = {
    "{table: team_none, column: born, method: constant, value: today}": "'today' means another time",
    "{table: team_none, column: born, method: constant, value: 31.12.99}": "which does not take '31.12.99'",
    "{table: order, column: id, method: constant, value: '1'}": "the column is an identity",
    "{table: team_log, column: id, method: 'null'}": "the column is NOT NULL",
    "{table: team_v, column: id, method: 'null'}": "team_v is not a table. Name the tables that hold",
    "{table: team_two, column: code, method: constant, value: x}": "is unique, and each row",
    "{table: team_two, column: born, method: 'null'}": "the column is NOT NULL",
}
MORE = """
CREATE VIEW team_v AS SELECT 1 AS id;
CREATE TABLE team_two AS SELECT g::text AS code, now()::date AS born FROM generate_series(1, 2) g;
ALTER TABLE team_two ALTER born SET NOT NULL; CREATE UNIQUE INDEX ON team_two (upper(code));
"""


def test_backup_and_live_database_are_judged_alike(live_odoo: LiveOdoo, own: Path, folder: Path) -> None:
    odoo = live_odoo(ODD + MORE)
    file = own / f"{odoo}.anonymise.yaml"
    for rule, said in UNFIT.items():
        file.write_text(f"- {rule}")
        with pytest.raises(PreflightError, match=said):
            odoo_staging_copy(f"{odoo}_copy", odoo, live=True)
    assert not folder.exists()
    dump = Path(odoo_db_backup(odoo)["file"]).name
    for rule, said in UNFIT.items():
        file.write_text(f"- {rule}")
        with pytest.raises(PreflightError, match=said):
            odoo_db_restore(f"{odoo}_copy", dump)
