"""Which modules may be upgraded, and what counts as upgraded."""

from __future__ import annotations

import pytest

from flows.odoo.modules import (
    Module,
    changed,
    check_not_lowered,
    check_same,
    check_unmarked,
    check_upgradable,
    check_upgraded,
    check_versions,
)
from opsdb.errors import PreflightError, StepFailedError

KNOWN = {"sale": Module("installed", "1"), "stock": Module("installed", "1"), "hr": Module("uninstalled", None)}
MARKED = KNOWN | {"web": Module("to remove", "1"), "crm": Module("to upgrade", "1")}


def test_module_that_odoo_would_ignore_is_not_upgraded() -> None:
    check_upgradable(["sale", "stock"], KNOWN, database="odoo")
    with pytest.raises(PreflightError, match="hr is uninstalled"):
        check_upgradable(["sale", "hr"], KNOWN, database="odoo")


def test_whatever_is_marked_is_named_before_an_upgrade_and_after_it() -> None:
    check_unmarked(KNOWN, database="odoo")
    with pytest.raises(PreflightError, match="crm is to upgrade; web is to remove"):
        check_unmarked(MARKED, database="odoo")
    check_upgraded(["sale"], KNOWN, database="odoo")
    with pytest.raises(StepFailedError, match="crm is to upgrade; web is to remove"):
        check_upgraded(["sale"], MARKED, database="odoo")
    with pytest.raises(StepFailedError, match="hr is uninstalled; nix is gone"):
        check_upgraded(["hr", "nix"], KNOWN, database="odoo")


def test_module_whose_code_has_another_version_was_not_upgraded() -> None:
    check_versions(["sale"], KNOWN, "noise\ncode: sale 1\n")
    with pytest.raises(StepFailedError, match=r"sale is at 1, and its code at 2; stock is at 1, .* no known version"):
        check_versions(["sale", "stock"], KNOWN, "code: sale 2\n")


def test_module_whose_version_sank_is_named_whatever_was_known_before_the_upgrade() -> None:
    check_not_lowered(["sale"], {"sale": Module("installed", "18.0.10")}, {"sale": "18.0.9"})
    with pytest.raises(StepFailedError, match=r"older than the database: sale from 18\.0\.10 to 18\.0\.2\."):
        check_not_lowered(["sale"], {"sale": Module("installed", "18.0.2")}, {"sale": "18.0.10"})


def test_what_was_committed_is_what_has_another_version() -> None:
    before: dict[str, str | None] = {"sale": "0", "stock": "1"}
    assert changed(before, MARKED) == {"sale": {"before": "0", "after": "1"}}


def test_database_of_odoo_must_be_the_one_that_was_looked_at() -> None:
    check_same("odoo", "a-b", "noise\ndatabase: a-b\nassets: dropped\n")
    check_same("odoo", None, "assets: dropped\n")
    for said in ("database: c-d\n", "assets: dropped\n"):
        with pytest.raises(StepFailedError, match="Odoo works with another database odoo"):
            check_same("odoo", "a-b", said)
