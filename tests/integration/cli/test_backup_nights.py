"""`ops backups nights`: what it shows of the record of runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.cli.conftest import Ops
from tests.support.alerts_lab import Lab


@pytest.fixture
def nights(lab: Lab) -> datetime:
    """Twelve nights of `odoo_new` and as many of `odoo_prod`, which has no backup of the three before the last; the
    last night."""
    now = datetime.now(UTC)
    last = (now - timedelta(hours=6)).replace(hour=6, minute=0, second=0, microsecond=0)
    for database in ("odoo_new", "odoo_prod"):
        for night in range(12):
            if database == "odoo_new" or night not in (1, 2, 3):
                at = last - timedelta(days=night, hours=3)
                done = {"state": "COMPLETED", "status": "succeeded", "finished_at": at, "started_at": at}
                lab.run(
                    kind="odoo_db_backup",
                    params=json.dumps({"odoo_db": database}),
                    age=(now - at).total_seconds(),
                    **done,
                )
    return last


def test_nights_are_a_line_for_each_database(ops: Ops, nights: datetime) -> None:
    code, out, err = ops("backups", "nights")
    assert (code, err) == (0, "")
    missed = nights - timedelta(days=1)
    assert [line.split() for line in out.splitlines()] == [
        ["database", "fresh", "nights", "last", "night", "without", "one"],
        ["odoo_new", "12", "of", "12"],
        ["odoo_prod", "9", "of", "12", f"{missed:%Y-%m-%d}"],
    ]


def test_nights_of_one_database_as_json(ops: Ops, nights: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_BACKUP_OBJECTIVE", "27")
    code, out, _ = ops("backups", "nights", "odoo_prod", "--json")
    document = json.loads(out)
    [one] = document["databases"]
    at = datetime.fromisoformat(one.pop("last_without_at"))
    assert (code, document["objective"], at) == (0, 27, nights - timedelta(days=1))
    assert one == {"database": "odoo_prod", "fresh_nights": 9, "nights": 12}


def test_database_that_nobody_tried_is_said(ops: Ops, lab: Lab) -> None:
    lab.finish(lab.run(params=json.dumps({"odoo_db": "odoo_prod"})))
    for named, of, made in ((("odoo_prod",), "odoo_prod", "odoo_prod"), ((), "any database", "NAME")):
        code, out, err = ops("backups", "nights", *named)
        assert (code, out) == (0, "")
        assert err.startswith(f"Nobody tried a backup of {of} in the last 31 days. Make one: `ops run odoo_db_backup")
        assert err.endswith(f"-p odoo_db={made}`\n")
