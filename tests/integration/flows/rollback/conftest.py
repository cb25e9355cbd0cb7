"""The shop whose upgrades are taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from opsdb.settings import Settings
from tests.integration.flows.odoo_sites import Site
from tests.integration.flows.recorded import recorded
from tests.integration.flows.rollback.shops import Shop


@pytest.fixture
def shop(
    site: Site, settings: Settings, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    filestores = tmp_path / "filestore"
    monkeypatch.setenv("OPS_FILESTORE_DIR", str(filestores))
    # as a room that was given the address of its Odoo's own database
    monkeypatch.setenv("OPS_ODOO_DATABASE_URL", postgres.format(database=site.database))
    monkeypatch.setenv("OPS_DATABASE_URL", settings.database_url.get_secret_value() if settings.database_url else "")
    steps: list[str] = []
    with recorded(heard=lambda name, status: steps.append(name) if status == "succeeded" else None) as runs:
        made = Shop(site, postgres, filestores, runs, steps)
        made.execute("CREATE TABLE ir_attachment (id serial, store_fname varchar)")
        made.execute("CREATE TABLE sale_order (id serial PRIMARY KEY, name text, write_date timestamp)")
        made.execute("INSERT INTO sale_order (name, write_date) VALUES ('S1', '2020-01-01'), ('S2', '2020-01-01')")
        made.attach("an invoice")
        yield made
