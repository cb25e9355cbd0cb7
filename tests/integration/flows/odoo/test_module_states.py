"""Marks of modules put back, in the time that there is for it."""

from __future__ import annotations

import time

import psycopg
import pytest

from flows.odoo import module_states
from opsdb.errors import StepFailedError
from opsdb.settings import load_settings
from tests.integration.flows.odoo_sites import Site


def test_all_statements_together_have_one_limit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_states, "_UPDATE_SECONDS", 0.3)
    site.daemon.stop_service()
    site.mark("web", "to upgrade")
    with psycopg.connect(site.database_url) as other:
        other.execute("SELECT FROM ir_module_module FOR UPDATE")
        began = time.monotonic()
        with pytest.raises(StepFailedError, match="could not be put back"):
            module_states.put_marks_back(site.database, url=load_settings().odoo_url)
        assert time.monotonic() - began < 5
    put_back = module_states.put_marks_back(site.database, url=load_settings().odoo_url)
    assert put_back.marks == {"web": "to upgrade"}
