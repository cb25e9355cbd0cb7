"""A name that nothing here has is an error that names the near one; what is recorded is always shown."""

from __future__ import annotations

import json

import pytest

from opsdb.settings import Settings
from tests.integration.cli.conftest import Ops
from tests.support.alerts_lab import Lab
from tests.support.backups import NOW, make_backup


@pytest.mark.parametrize("command", [("runs", "--kind"), ("stats",)])
def test_mistyped_kind_is_an_error_that_names_the_near_one(ops: Ops, command: tuple[str, ...]) -> None:
    code, out, err = ops(*command, "odoo_db_bakcup")
    assert (code, out) == (2, "")
    assert "no runbook 'odoo_db_bakcup'. Did you mean odoo_db_backup? There are: " in err
    assert ops(*command, "odoo_db_backup")[0] == 0


def test_runs_of_a_kind_that_is_gone_are_shown(ops: Ops, lab: Lab) -> None:
    lab.finish(lab.run(kind="of_before"))
    assert ops("runs", "--kind", "of_before")[:1] == (0,)


@pytest.mark.parametrize(
    "command",
    [
        ("runs", "--for"),
        ("cancel", "--all", "--yes", "--for"),
        ("backups",),
        ("backups", "nights"),
        ("backups", "sign"),
    ],
)
def test_mistyped_database_is_an_error_that_names_the_near_one(
    ops: Ops, lab: Lab, settings: Settings, command: tuple[str, ...]
) -> None:
    lab.finish(lab.run(params=json.dumps({"odoo_db": "shop_of_anna"})))
    settings.backups.mkdir(parents=True, exist_ok=True)
    code, out, err = ops(*command, "shop_of_ana")
    assert (code, out) == (2, "")
    assert "'shop_of_ana' is not known: no run is about it, and no database of the server has that name" in err
    assert "Did you mean shop_of_anna?" in err
    assert ops(*command, "shop_of_anna")[0] == 0


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("last:shop_of_ana", "is recorded. Did you mean shop_of_anna?"),
        ("last:odoo_db_bakcup", "is recorded. Did you mean odoo_db_backup?"),
        ("shop_of_ana backup", "it is not a run id. Did you mean shop_of_anna · backup?"),
    ],
)
def test_mistyped_run_gets_the_near_name(ops: Ops, lab: Lab, name: str, near: str) -> None:
    lab.sql("INSERT INTO ops.kinds (kind, subject, defaults) VALUES ('odoo_db_backup', 'x', '{}')")
    lab.finish(lab.run(name="shop_of_anna · backup", params=json.dumps({"odoo_db": "shop_of_anna"})))
    code, out, err = ops("show", name)
    assert (code, out) == (2, "")
    assert near in err


def test_database_of_the_server_is_known_without_a_run(ops: Ops, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ops("runs", "--for", "postgres")[0] == 0
    monkeypatch.setattr("flows.backup.odoo_databases.find_odoo_databases", lambda _url: ["shop_of_berta"])
    assert "Did you mean shop_of_berta?" in ops("runs", "--for", "shop_of_bert")[2]
    monkeypatch.setattr("cli.known_names.server_databases", lambda _settings: [])
    code, _, err = ops("runs", "--for", "postgres")
    assert (code, "the database server did not answer" in err) == (2, True)


def test_near_name_of_a_backup_without_a_run_is_offered(ops: Ops, lab: Lab, settings: Settings) -> None:
    settings.backups.mkdir(parents=True, exist_ok=True)
    make_backup(settings.backups, "shop_of_clara", NOW)
    for command in (("backups",), ("backups", "sign")):
        code, _, err = ops(*command, "shop_of_klara")
        assert (code, "Did you mean shop_of_clara?" in err) == (2, True)


def test_mistyped_session_is_an_error_that_names_the_near_one(ops: Ops, lab: Lab) -> None:
    lab.finish(lab.run())
    for command in (("runs", "--session"), ("session", "show"), ("session", "cancel")):
        code, out, err = ops(*command, "Relaese")
        assert (code, out) == (2, "")
        assert "no session has the name or id 'Relaese'. Did you mean Release?" in err


def test_runs_of_a_session_are_found_by_a_part_of_its_id(ops: Ops, lab: Lab) -> None:
    lab.finish(lab.run())
    for session in ("Release", "00000000-0000-4000-8000-000000000001", "00000001"):
        code, out, _ = ops("runs", "--session", session, "--json")
        assert (code, len(json.loads(out))) == (0, 1)


def test_filters_that_nothing_fits_though_their_names_are_known_are_no_error(ops: Ops, lab: Lab) -> None:
    lab.finish(lab.run(params=json.dumps({"odoo_db": "shop_of_anna"})))
    code, _, err = ops("runs", "--for", "shop_of_anna", "--session", "Release", "--status", "queued")
    assert code == 0
    assert "No runs match these filters" in err
