"""What the pages of a restore and of a drill say."""

from __future__ import annotations

import shlex
from typing import Any

from pydantic import TypeAdapter

from flows.backup.parameters import BackupOrDatabase, OdooDatabase, OptionalTarget
from flows.restore.told import drill_facts, restore_facts

PROOF: dict[str, Any] = {
    "backup": "shop_20260101T000000Z.dump",
    "created_at": "2026-01-01T00:00:00+00:00",
    "signature": "good",
    "restore_seconds": 61.0,
    "rows_compared": 1234,
    "tables_compared": 5,
    "proven_on": "18.6",
    "missing_files": [],
}


def test_restore_names_the_new_database_and_what_is_not_in_it() -> None:
    result = {**PROOF, "database": "shop_test", "published": "neutralised: <a>", "not_restored": ["owner <x>"]}
    rows = dict(restore_facts({}, result).rows)
    assert rows["new database"] == "`shop_test`"
    assert rows["published"] == r"neutralised\: \<a\>"
    assert rows["not restored"] == r"owner \<x\>"
    assert rows["compared"] == "1,234 rows in 5 tables"
    assert rows["filestore"] == "not unpacked"
    whole = dict(restore_facts({}, {**result, "not_restored": [], "rows_compared": None}).rows)
    assert whole["not restored"] == "nothing: all of it is there"
    assert whole["compared"] == "no rows: the backup has no counts"


def test_copy_says_in_words_what_was_done_to_it() -> None:
    done = {
        "rows_changed": {"scheduled jobs": 1300, "res_partner.email: hash": 2},
        "refused": {"bank tokens": "no"},
        "left": {"scheduled jobs": 0, "webhooks": 0},
        "own_files": {"shop.anonymise.yaml": "ff"},
    }
    rows = dict(restore_facts({}, {**PROOF, "database": "shop_test", "neutralised": done}).rows)
    assert rows["rows changed"] == r"scheduled jobs 1,300; res\_partner\.email\: hash 2"
    assert rows["looked for afterwards"] == "2 kinds of what a copy must not have: nothing is left"
    assert (rows["refused by the server"], rows["own files"]) == ("bank tokens", "`shop.anonymise.yaml`")
    assert "rows changed" not in dict(restore_facts({}, {**PROOF, "database": "shop_test", "neutralised": None}).rows)


def test_drill_says_what_was_proven_and_how_it_is_restored() -> None:
    facts = drill_facts({"odoo_db": "shop"}, {**PROOF, "missing_files": ["a.filestore"]})
    assert dict(facts.rows)["restored in"] == "1 min 01 s"
    assert dict(facts.rows)["missing files"] == "`a.filestore`"
    assert facts.commands == ["ops run odoo_db_restore -p backup=shop_20260101T000000Z.dump -p odoo_db=shop_restored"]


def test_command_of_a_drill_finds_the_backup_and_names_a_database_that_may_be() -> None:
    parameters = {"odoo_db": "s" * 63, "backup": "", "backup_dir": "/my folder", "target": "offsite"}
    [command] = drill_facts(parameters, PROOF).commands
    given = dict(word.split("=", 1) for word in shlex.split(command) if "=" in word)
    assert given == {
        "backup": PROOF["backup"],
        "odoo_db": f"{'s' * 54}_restored",
        "backup_dir": "/my folder",
        "target": "offsite",
    }
    for name, type_ in (("odoo_db", OdooDatabase), ("backup", BackupOrDatabase), ("target", OptionalTarget)):
        assert TypeAdapter(type_).validate_python(given[name]) == given[name]
