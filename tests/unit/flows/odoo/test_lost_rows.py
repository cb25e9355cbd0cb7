"""What a person is asked before a rollback, and what stands behind the question."""

from __future__ import annotations

from flows.odoo.lost_rows import consequences, question
from flows.odoo.rows_since import Since
from flows.odoo.take_back import Phase, TakeBack
from tests.unit.flows.odoo.test_killed_rollback import before


def test_what_people_do_meanwhile_stands_behind_the_question_and_not_in_it() -> None:
    """The question that was approved must be the one that is asked when the run goes on."""
    quiet = TakeBack(before(), Phase.NOT_YET)
    busy = TakeBack(before(), Phase.NOT_YET, beneath="other databases of the server have Odoo's modules")
    assert (
        question(quiet)
        == question(busy)
        == (
            "take shop back to a copy on the server of 2026-11-30 00:00:00 UTC, and /opt/odoo to cccccccccccc "
            "(attempt 1 of run 1f3a9c0b)?"
        )
    )
    assert consequences(quiet, None) == ""
    said = consequences(busy, Since(["sale_order (+1 rows)"], []))
    assert said.startswith("Written since then, and kept in ops_broken_")
    assert said.endswith(" alone: sale_order (+1 rows). Note: other databases of the server have Odoo's modules.")
