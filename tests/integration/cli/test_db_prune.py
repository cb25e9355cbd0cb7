"""`ops db prune` and what `ops doctor` says of it, as a person calls them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest

from cli.doctor.record import check_old
from opsdb.settings import Settings
from tests.integration.cli.conftest import Ops
from tests.support.old_runs import make_old_runs
from tests.support.postgres import new_database


@pytest.fixture
def settings(settings: Settings, postgres: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A room with three runs that are old, in a Prefect database of its own."""
    name = f"prefect_{settings.ops_url.partition('?')[0].rpartition('/')[2]}"
    room = settings.model_copy(update={"prefect_database": name})
    with psycopg.connect(room.ops_url) as db:
        db.execute("INSERT INTO ops.sync_marks (name, at) VALUES ('sync', now())")
    monkeypatch.setenv("OPS_PREFECT_DATABASE", name)
    with new_database(postgres, name, template="prefect"):
        make_old_runs(room, days=100, count=3)
        make_old_runs(room, days=10)
        yield room


def test_person_sees_what_would_go_then_what_went(ops: Ops) -> None:
    code, out, _ = ops("db", "prune", "--dry-run")
    assert code == 0
    assert out.splitlines()[0].split() == ["what", "would", "go", "size", "oldest"]
    assert next(line.split()[2] for line in out.splitlines() if line.startswith("record: runs")) == "3"

    code, out, _ = ops("db", "prune", "--json")
    said = json.loads(out)
    assert (code, said["dry_run"]) == (0, False)
    assert {name: said["deleted"][name]["count"] for name in ("Prefect: runs", "record: runs")} == {
        "Prefect: runs": 3,
        "record: runs": 3,
    }
    assert ops("db", "prune") == (0, "Nothing is old enough to delete.\n", "")


@pytest.mark.gate
def test_room_of_an_older_version_is_told_and_one_of_this_version_is_not(settings: Settings) -> None:
    (made_so,) = check_old(settings)
    assert made_so.ok
    with psycopg.connect(settings.ops_url) as db:
        db.execute("DELETE FROM ops.prunes")
    (asked,) = check_old(settings)
    assert not asked.ok
    assert asked.found.startswith(
        "stays, and Prefect deletes no runs by itself any more: 3 runs ended over 90 days ago"
    )
