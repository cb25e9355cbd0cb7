"""A restored Odoo sends nothing, runs nothing and gives nothing away; what could not be made so is not published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from flows.copies import original
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from opsdb.errors import PreflightError, StepFailedError, UsageError
from tests.support.hostile_database import hostile_database
from tests.support.live_odoo import MODULES, ROWS, SECRET, TABLES, WORDS, texts, uuid_of
from tests.support.odoo_sample import SAMPLE, make_odoo_database
from tests.support.postgres import databases

LiveOdoo = Callable[..., str]
WAKES = """
CREATE FUNCTION awake() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.active = true; RETURN NEW; END';
CREATE TRIGGER awake BEFORE UPDATE ON ir_cron FOR EACH ROW EXECUTE FUNCTION awake();
"""
# the types of a session come before all others, also with an empty search path
BLINDS = """
CREATE FUNCTION blind() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF to_regtype('pg_temp.text') IS NULL THEN
        CREATE TYPE pg_temp.text AS ENUM ('false');
        CREATE FUNCTION pg_temp.no(boolean) RETURNS pg_temp.text LANGUAGE sql AS 'SELECT ''false''::pg_temp.text';
        CREATE CAST (boolean AS pg_temp.text) WITH FUNCTION pg_temp.no(boolean);
    END IF;
    NEW.active = true; RETURN NEW; END $$;
CREATE TRIGGER blind BEFORE UPDATE ON ir_cron FOR EACH ROW EXECUTE FUNCTION blind();
"""


def backed_up(database: str) -> str:
    return Path(odoo_db_backup(database)["file"]).name


@pytest.mark.promise(12)
def test_copy_of_an_odoo_acts_no_more_and_the_original_goes_on(
    postgres: str, live_odoo: LiveOdoo, told: list[str]
) -> None:
    odoo = live_odoo()
    dump, before = backed_up(odoo), texts(postgres.format(database=odoo))
    result = odoo_db_restore(f"{odoo}_copy", dump, base_url="https://copy.example.com")
    url = postgres.format(database=f"{odoo}_copy")
    with psycopg.connect(url) as db:
        assert db.execute("SELECT cron_name FROM ir_cron WHERE active").fetchall() == [("Auto-vacuum",)]
        assert db.execute("SELECT smtp_host FROM ir_mail_server WHERE active").fetchall() == [("invalid",)]
        assert db.execute("SELECT state FROM mail_mail ORDER BY 1").fetchall() == [("cancel",), ("sent",)]
        assert db.execute("SELECT state FROM payment_provider ORDER BY 1").fetchall() == [("disabled",), ("test",)]
        rows = db.execute("SELECT key, value FROM ir_config_parameter").fetchall()
        own: dict[str, str] = dict(rows)
        assert (own["web.base.url"], own["web.base.url.freeze"]) == ("https://copy.example.com", "True")
        assert (own["database.is_neutralized"], own["mail.catchall.domain"]) == ("true", "example.com")
        assert own["auth_signup.reset_password"] == "True"  # no key, whatever its name says
        assert db.execute("SELECT DISTINCT access_token FROM team_shop").fetchall() == [("of a portal",)]
        assert db.execute("SELECT state FROM queue_job ORDER BY 1").fetchall() == [("cancelled",), ("done",)]
        modes = db.execute("SELECT l10n_es_test_env, l10n_in_production_env, l10n_sa_api_mode FROM res_company")
        assert modes.fetchall() == [(True, False, None)]
        assert db.execute("SELECT count(*) FROM ir_attachment").fetchall() == [(0,)]  # the key of a certificate
        statistics = db.execute("SELECT coalesce(string_agg(s::text, ' '), '') FROM pg_stats s").fetchall()
        assert [word for word in WORDS if word in str(statistics)] == []
        assert db.execute("SELECT password FROM res_users").fetchall() == [("hash-of-admin",)]
        owners = db.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert owners == [(f"owner_{odoo}",)]
    assert [word for word in (uuid_of(odoo), *WORDS) if word in texts(url)] == []
    assert texts(postgres.format(database=odoo)) == before
    assert told == [f"{odoo}_copy will be published {result['published']}"]
    done = result["neutralised"]
    assert (set(done["left"].values()), done["refused"]) == ({0}, {})
    assert done["rows_changed"]["waiting SMS"] == 1
    assert {"waiting mail", "scheduled jobs"} <= done["left"].keys()
    assert "waiting letters" in done["not_installed"]  # no such table: that is not the same as no rows
    assert SECRET not in str(result) + str(told)


@pytest.mark.promise(12)
@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        (WAKES, "scheduled jobs: 1 left"),
        ("ALTER TABLE ir_cron RENAME active TO switched_on", "cannot check scheduled jobs: ir_cron has no column"),
        ("ALTER TABLE mail_mail ALTER state TYPE jsonb USING to_jsonb(state)", "waiting mail: .* left"),
        ("ALTER TABLE ir_mail_server DROP smtp_authentication", "it lacks a mail server that sends nothing"),
        ("DROP TABLE ir_cron CASCADE", "cannot check scheduled jobs: there is no table public.ir_cron"),
        (BLINDS, "scheduled jobs: 1 left in ir_cron.active"),
        ("ALTER TABLE sms_sms RENAME TO own; CREATE VIEW sms_sms AS SELECT * FROM own", "sms_sms is not a table"),
    ],
    ids=["a trigger", "another column", "another type", "a column less", "a table less", "a cast of its own", "a view"],
)
def test_copy_that_would_still_act_is_not_published(postgres: str, live_odoo: LiveOdoo, more: str, wrong: str) -> None:
    odoo = live_odoo(more)
    dump, before = backed_up(odoo), databases(postgres)
    with pytest.raises(StepFailedError, match=f"the copy is not safe to use, and was not published: .*{wrong}"):
        odoo_db_restore(f"{odoo}_copy", dump)
    assert databases(postgres) == before


@pytest.mark.parametrize("table", ["ir_cron", "ir_module_module"])
def test_tables_of_an_odoo_in_another_schema_are_refused(postgres: str, live_odoo: LiveOdoo, table: str) -> None:
    odoo = live_odoo()
    with psycopg.connect(postgres.format(database=odoo)) as db:
        db.execute(f"CREATE SCHEMA aside; ALTER TABLE {table} SET SCHEMA aside".encode())
    dump, before = backed_up(odoo), databases(postgres)
    with pytest.raises(StepFailedError, match=f"lie outside of schema public: aside.{table}"):
        odoo_db_restore(f"{odoo}_copy", dump, missing_roles="leave")
    assert databases(postgres) == before


def test_statement_that_fails_stops_no_other(postgres: str, live_odoo: LiveOdoo, told: list[str]) -> None:
    odoo = live_odoo("ALTER TABLE account_online_link ADD CHECK (refresh_token IS NOT NULL)")
    dump = backed_up(odoo)
    with pytest.raises(StepFailedError, match="published: bank tokens: 1 left"):
        odoo_db_restore(f"{odoo}_copy", dump)
    [refused] = [one for one in told if one.startswith("refused while neutralising: ")]
    assert (
        'bank tokens (account_online_link.refresh_token): new row for relation "account_online_link" violates check'
        in refused
    )
    assert "bank-word" not in refused


@pytest.mark.promise(12)
def test_triggers_of_a_backup_gain_nothing_by_what_the_room_changes(postgres: str, live_odoo: LiveOdoo) -> None:
    name = live_odoo().replace("live", "hostile")
    attack = """
    CREATE FUNCTION evil.on_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        'BEGIN PERFORM evil.attack(''x''); INSERT INTO evil.loot VALUES (current_user::text || session_user);
        RETURN NEW; END';
    """
    for table in ("ir_cron", "ir_mail_server", "ir_config_parameter", "mail_mail"):
        attack += f"CREATE TRIGGER hit BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION"
        attack += f" evil.on_change(); ALTER TABLE {table} ENABLE ALWAYS TRIGGER hit;"
    with hostile_database(postgres, name, MODULES + TABLES + ROWS, attack) as made:
        dump = backed_up(made.database)
        odoo_db_restore(f"{name}_copy", dump)
        with psycopg.connect(postgres.format(database=f"{name}_copy")) as db:
            words = {str(word) for (word,) in db.execute("SELECT word FROM evil.loot").fetchall()}
        assert words  # the triggers did execute
        assert not any("postgres" in word or "SCRAM" in word or "root:" in word for word in words), words
        assert made.harm() == []


def test_database_that_is_not_an_odoos_is_published_as_it_is(postgres: str, database: str, told: list[str]) -> None:
    result = odoo_db_restore(f"{database}_copy", backed_up(database))
    assert (result["published"], result["neutralised"]) == ("as it is: the backup is not an Odoo's", None)
    assert f"{database}_copy will be published as it is: the backup is not an Odoo's" in told


def test_production_comes_back_unchanged_where_its_original_is_gone_and_else_waits_for_a_person(
    postgres: str, live_odoo: LiveOdoo, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    odoo = live_odoo()
    dump, before = backed_up(odoo), texts(postgres.format(database=odoo))
    with pytest.raises(UsageError, match="approve_production: a run in no lane cannot wait for an approval"):
        odoo_db_restore(f"{odoo}_new", dump, as_production=True)
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f"DROP DATABASE {odoo}")

    def refuse(_database: str, _url: str) -> str:
        raise PreflightError("it has no connection left")

    with monkeypatch.context() as patch:
        patch.setattr(original, "_uuid_of", refuse)  # whoever cannot be asked may be the original
        with pytest.raises(UsageError, match="approve_production"):
            odoo_db_restore(f"{odoo}_new", dump, as_production=True)
    result = odoo_db_restore(f"{odoo}_new", dump, as_production=True)
    assert texts(postgres.format(database=f"{odoo}_new")) == before
    assert result["neutralised"] is None
    assert told[-1].startswith(f"{odoo}_new will be published as production, not neutralised: its jobs")


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no sample of a real Odoo")  # it is not part of this repository
def test_database_of_a_real_odoo_is_neutralised(postgres: str, live_odoo: LiveOdoo) -> None:
    name = live_odoo().replace("live", "sample")
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f"CREATE ROLE owner_{name}")
    make_odoo_database(postgres, name, owner=f"owner_{name}")
    result = odoo_db_restore(f"{name}_copy", backed_up(name))
    done = result["neutralised"]
    assert (done["refused"], set(done["left"].values())) == ({}, {0})
    assert done["rows_changed"]["scheduled jobs"] == 13
    assert {"payment providers", "OAuth providers", "bank tokens"} <= set(done["not_installed"])
