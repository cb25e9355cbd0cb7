"""Odoos of which copies are made."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from flows.odoo_db_backup import odoo_db_backup
from tests.integration.flows.copies.copied_odoo import Copied
from tests.support.live_odoo import make_live_odoo

_numbers = itertools.count()


@pytest.fixture
def live_odoo(postgres: str, folder: Path) -> Callable[..., str]:
    """Makes a database in which everything acts, of a role without rights; returns its name."""
    assert folder

    def make(more: str = "") -> str:
        name = f"live_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
            db.execute(f"CREATE ROLE owner_{name}")
        make_live_odoo(postgres, name, owner=f"owner_{name}", more=more)
        return name

    return make


@pytest.fixture
def copied(postgres: str, live_odoo: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copied:
    """A production with two attachments and a backup of it."""
    filestores = tmp_path / "filestore"
    monkeypatch.setenv("OPS_FILESTORE_DIR", str(filestores))
    made = Copied(live_odoo("UPDATE res_partner SET comment = 'first day'"), postgres, filestores)
    for text in ("a contract", "an invoice"):
        made.attach(text, made.production)
    odoo_db_backup(made.production)
    return made


@pytest.fixture
def own(folder: Path) -> Path:
    """The folder of a team's own files."""
    made = folder.parent / "copies"
    made.mkdir(mode=0o700)
    return made
