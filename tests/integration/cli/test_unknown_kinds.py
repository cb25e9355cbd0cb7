"""A kind that never was a runbook here is an error that names the near one; what is recorded is always shown."""

from __future__ import annotations

import pytest

from tests.integration.cli.conftest import Ops
from tests.support.alerts_lab import Lab


@pytest.mark.parametrize("command", [("runs", "--kind"), ("stats",)])
def test_mistyped_kind_is_an_error_that_names_the_near_one(ops: Ops, command: tuple[str, ...]) -> None:
    code, out, err = ops(*command, "odoo_db_bakcup")
    assert (code, out) == (2, "")
    assert "no runbook 'odoo_db_bakcup'. Did you mean odoo_db_backup? There are: " in err
    assert ops(*command, "odoo_db_backup")[0] == 0


def test_runs_of_a_kind_that_is_gone_are_shown(ops: Ops, lab: Lab) -> None:
    lab.finish(lab.run(kind="of_before"))
    assert ops("runs", "--kind", "of_before")[:1] == (0,)
