"""A real Odoo for the tests of runbooks, where OPS_TEST_ODOO says where one is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.flows.odoo.real_sites import RealSite, Team, real_site
from tests.support.real_odoo import copy_template, make_role, make_template, needs_odoo


@pytest.fixture(scope="session")
def real_template(postgres: str, short_folder: Path) -> Path:
    """The folder of a database with orders and what they need, and its filestore. Odoo takes half a minute for it."""
    needs_odoo()
    folder = short_folder / "real_odoo"
    make_role(postgres)
    make_template(folder, postgres, "sale_management")
    return folder


@pytest.fixture
def real(
    real_template: Path, postgres: str, tmp_path: Path, path_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RealSite]:
    """A site of a real Odoo, which does not run yet."""
    name = re.sub(r"\W", "_", f"shop_{path_folder.name}".lower())
    facts = {"postgres": postgres, "database": name}
    with real_site(Team.of(tmp_path), tmp_path, path_folder, facts) as site:
        copy_template(real_template, site.odoo)
        monkeypatch.setenv("OPS_FILESTORE_DIR", str(site.odoo.filestore))
        yield site
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
