from __future__ import annotations

from deployments.server.startable import unknown_kind


def test_kind_that_is_switched_off_says_how_to_switch_it_on() -> None:
    said = str(unknown_kind("stored_command", ["odoo_db_backup"]))
    assert said.startswith("KIND: stored_command is switched off in this room. Hint: set OPS_STORED_COMMANDS=true")
    assert "There are: odoo_db_backup" in str(unknown_kind("stored_comand", ["odoo_db_backup"]))
