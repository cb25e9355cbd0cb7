"""A database that is nearly the name of one that is there is refused before a run is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.run import mistyped
from cli.run.mistyped import check_databases
from opsdb.errors import UsageError
from opsdb.settings import Settings

SCHEMA = {
    "properties": {
        "odoo_db": {"type": "string"},
        "backup": {"type": "string", "examples": ["odoo_prod", "odoo_shop"]},
        "databases": {"type": "array", "examples": ["odoo_prod", "odoo_shop"]},
        "backup_dir": {"type": "string", "examples": ["/srv/backups"]},
    }
}


@pytest.fixture
def on_server(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The databases of the server; no run is about any of them."""
    found = ["odoo_prod", "odoo_shop", "postgres"]
    monkeypatch.setattr(mistyped, "server_databases", lambda _settings: found)
    monkeypatch.setattr(mistyped, "_is_awaited", lambda _settings, database: database == "odoo_prod2")
    return found


def check(settings: Settings, **params: Any) -> None:
    check_databases(settings, params, schema=SCHEMA)


@pytest.mark.parametrize("params", [{"backup": "odoo_prdo"}, {"databases": ["odoo_shop", "odoo_prdo"]}])
def test_mistyped_database_is_named_with_the_one_that_was_meant(
    tmp_path: Path, on_server: list[str], params: dict[str, Any]
) -> None:
    settings = Settings(home=tmp_path)
    said = "there is no database 'odoo_prdo' on the server. Did you mean 'odoo_prod'"
    with pytest.raises(UsageError, match=said):
        check(settings, **params)
    check(settings, **params, target="spaces")  # who knows what is there
    settings.backups.mkdir()
    (settings.backups / "odoo_prdo_20260301T020000Z.dump").touch()
    check(settings, **params)
    (settings.backups / "odoo_prdo_20260301T020000Z.dump").unlink()
    on_server.append("odoo_prdo")  # since the form was made
    check(settings, **params)
    on_server.clear()  # it does not answer
    check(settings, **params)


def test_database_that_may_be_right_is_left_to_the_run(tmp_path: Path, on_server: list[str]) -> None:
    assert on_server
    settings = Settings(home=tmp_path)
    for backup in ("odoo_prod", "not_there", "odoo_prod2", "odoo_prod_20260301T020000Z.dump", ""):
        check(settings, backup=backup)
    check(settings, odoo_db="odoo_prdo", backup_dir="/srv/backup")  # a new one, and no database
