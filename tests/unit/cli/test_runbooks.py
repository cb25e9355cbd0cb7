"""`ops runbooks KIND`: how the description of a runbook is printed."""

from __future__ import annotations

import pytest

from cli.runbooks import _print_description

WRITTEN = "Dump **one** database.\n\n- it changes nothing\n- \x1b[31mred\n\n```\nops backups odoo_prod\n```\n"


def test_prose_in_a_pipe_is_as_long_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    _print_description(WRITTEN)
    said = capsys.readouterr().out.splitlines()
    assert "Dump one database." in said
    assert "    ops backups odoo_prod" in said
    assert max(map(len, said)) < 40
    assert not any("\x1b" in line for line in said)
