"""What a team's rules may take, of time and of the disk: named before, or with the statement that took it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from flows.backup.folder import MARGIN_BYTES
from flows.copies import neutral
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.restore import change, server
from opsdb.errors import PreflightError, StepFailedError
from tests.support.postgres import databases

LiveOdoo = Callable[..., str]


def test_rule_that_takes_too_long_is_named_with_its_limit(
    postgres: str, live_odoo: LiveOdoo, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END';"
    slow += "CREATE TRIGGER slow BEFORE UPDATE ON res_partner FOR EACH ROW EXECUTE FUNCTION slow()"
    odoo = live_odoo(slow)
    dump = Path(odoo_db_backup(odoo)["file"]).name
    (own / f"{odoo}.anonymise.yaml").write_text("- {table: res_partner, column: email, method: fake_email}")
    before = databases(postgres)
    monkeypatch.setattr(neutral, "STATEMENT_SECONDS", 1.0)
    limit = (
        rf"time limit of 1 s reached in {odoo}\.anonymise\.yaml, line 1: res_partner\.email: fake_email\. Nothing was"
    )
    with pytest.raises(StepFailedError, match=limit):
        odoo_db_restore(f"{odoo}_copy", dump)
    monkeypatch.setattr(neutral, "STATEMENT_SECONDS", 60.0)
    monkeypatch.setattr(neutral, "CHANGE_SECONDS", 2.0)  # all statements together
    limit = r"time limit of 2 s for all statements together reached (in|before) .*The longest until then: .* s[;.] "
    with pytest.raises(StepFailedError, match=limit):
        odoo_db_restore(f"{odoo}_copy", dump)
    assert databases(postgres) == before


def test_statistics_are_collected_whatever_the_last_statement_might_take(
    postgres: str, live_odoo: LiveOdoo, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = "CREATE FUNCTION slow(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02);"
    slow += " RETURN $1; END'; CREATE TABLE team_slow AS SELECT g::text AS name FROM generate_series(1, 50) g;"
    slow += " CREATE INDEX ON team_slow (slow(name))"  # ANALYZE takes 1 s for it
    odoo = live_odoo(slow)
    dump = Path(odoo_db_backup(odoo)["file"]).name
    monkeypatch.setattr(neutral, "STATEMENT_SECONDS", 0.9)
    assert odoo_db_restore(f"{odoo}_copy", dump)["neutralised"]
    monkeypatch.setattr(change, "ANALYZE_SECONDS", 0.5)
    with pytest.raises(StepFailedError, match="planner's statistics still show previous values, and cannot be"):
        odoo_db_restore(f"{odoo}_copy2", dump)
    assert own


def test_disk_for_what_rules_write_again_is_counted_once_and_only_warned_of(
    postgres: str, live_odoo: LiveOdoo, own: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    odoo = live_odoo(
        "INSERT INTO res_partner (name, email, phone, comment)"
        " SELECT repeat('x', 40), repeat('y', 40), repeat('z', 40), repeat('z', 40) FROM generate_series(1, 20000)"
    )
    file = Path(odoo_db_backup(odoo)["file"])
    dump = file.name
    rules = [
        f"- {{table: res_partner, column: {name}, method: hash}}\n" for name in ("name", "email", "phone", "comment")
    ]

    def warned(free: int, *rules: str) -> list[str]:
        """Copy it with so much free; returns the warnings about it."""
        monkeypatch.setattr(server, "shutil", SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=free)))
        (own / f"{odoo}.anonymise.yaml").write_text("".join(rules))
        told.clear()
        odoo_db_restore(f"{odoo}_copy_{len(rules)}", dump)
        return [one for one in told if "may become full" in one]

    size = json.loads(file.with_name(f"{dump}.json").read_text())["database_bytes"] * 11 // 10
    assert warned(MARGIN_BYTES + 3 * size, *rules) == []
    [full] = warned(MARGIN_BYTES + size, *rules[:2])
    assert re.search(r"the restored database may need \d+ MB, and its rules for anonymising up to \d+ MB more", full)
    with pytest.raises(PreflightError, match=r"may need \d+ MB, and 67 MB must stay: make room"):
        warned(MARGIN_BYTES + size // 2, rules[0])

    def size_of(database: str) -> int:
        with psycopg.connect(postgres.format(database=database)) as db:
            return int(str(db.execute("SELECT pg_table_size('res_partner')").fetchall()[0][0]))

    assert size_of(f"{odoo}_copy_4") < 4 * size_of(odoo)  # five without; a snapshot of autovacuum's may keep one
