"""What the files of a backup are called, and what is none of ours."""

from __future__ import annotations

import pytest

from flows.backup.names import BackupName, parse_name, parse_partial
from tests.support.backups import NOW


def test_name_is_utc_whatever_zone_it_was_made_in() -> None:
    local = NOW.astimezone(tz=None)
    assert BackupName("odoo", local).dump == "odoo_20260301T020000Z.dump"


@pytest.mark.parametrize("database", ["odoo", "odoo_prod", "odoo_20250101T000000Z", "a.b-c", "9", "_", "x" * 63])
def test_parse_name_reads_back_what_was_made(database: str) -> None:
    name = BackupName(database, NOW)
    assert parse_name(name.dump) == name
    assert parse_partial(name.partial) == name
    assert len(name.manifest_partial) < 255


@pytest.mark.parametrize(
    "foreign",
    [
        "odoo.dump",
        "odoo_20260301_020000.dump",
        "odoo_20261301T020000Z.dump",
        "odoo_20260301T020000Z.dump.gz",
        "odoo_20260301T020000Z.dump\n",
        "odoo_\N{ARABIC-INDIC DIGIT TWO}0260301T020000Z.dump",
        "_20260301T020000Z.dump",
        "-odoo_20260301T020000Z.dump",
        ".odoo_20260301T020000Z.dump",
        "x" * 64 + "_20260301T020000Z.dump",
    ],
)
def test_parse_name_refuses_what_is_not_ours(foreign: str) -> None:
    assert parse_name(foreign) is None
