"""What the lines of the checks of an Odoo host mean."""

from __future__ import annotations

import pytest

from blocks.odoo_host import _CODE, _RUNNING, OdooHost, judge_lines

ALL = {**_CODE, **_RUNNING}
WELL = ["programs\tok\t", "checkout\tok\tabc of 2026-01-01", "service\tok\t", "health\tok\t"]


def test_all_is_well() -> None:
    assert [check.ok for check in judge_lines(OdooHost(), "\n".join(WELL), ALL)] == [True] * 4


@pytest.mark.parametrize("number", range(4))
def test_line_that_is_missing_or_wrong_is_told(number: int) -> None:
    name = WELL[number].split("\t")[0]
    less = judge_lines(OdooHost(), "\n".join(line for line in WELL if not line.startswith(name)), ALL)
    assert [check.subject for check in less if not check.ok] == [name]
    worse = judge_lines(OdooHost(), "\n".join([*WELL, f"{name}\twrong\tbecause"]), ALL)
    assert [check.subject for check in worse if not check.ok] == [name]
    assert "because" in repr(worse)


def test_service_that_is_unknown_or_stopped_says_what_to_do() -> None:
    for state, words in (("unknown", "choose from: web db"), ("stopped", "up -d odoo")):
        [check] = [
            one for one in judge_lines(OdooHost(), f"service\t{state}\tweb db", _RUNNING) if one.subject == "service"
        ]
        assert words in check.advice
