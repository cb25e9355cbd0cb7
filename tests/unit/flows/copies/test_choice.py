"""How a restored database is published: what is said of it before anything begins."""

from __future__ import annotations

import re
from typing import cast

import pytest

from flows.copies import choice
from flows.restore.ready import Ready

READY = cast("Ready", object())


def asked(monkeypatch: pytest.MonkeyPatch, same: list[str] | None) -> str | None:
    monkeypatch.setattr(choice, "same_odoo", lambda _ready, _url: same)
    monkeypatch.setattr(choice, "current_run", lambda: type("Run", (), {"settings": type("S", (), {"odoo_url": ""})}))
    return choice.ask_production(READY, "odoo_new")


@pytest.mark.parametrize(
    ("odoo", "production", "how", "as_production"),
    [
        (True, False, "neutralised: without jobs, mail", False),
        (None, False, "neutralised: .*, if it is an Odoo's", False),
        (False, False, "as it is: the backup is not an Odoo's", False),
        (False, True, "as it is: the backup is not an Odoo's", False),
        (True, True, "as production, not neutralised", True),
        (None, True, "as production, not neutralised", True),
    ],
)
def test_choice_says_which_of_three(*, odoo: bool | None, production: bool, how: str, as_production: bool) -> None:
    made = choice.choose(odoo=odoo, as_production=production)
    assert made.as_production == as_production
    assert re.match(how, made.how)


@pytest.mark.parametrize(
    ("same", "because"), [(["odoo_prod"], "odoo_prod has the same database.uuid"), (None, "could not find out")]
)
def test_production_beside_its_original_or_nobody_knows_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, same: list[str] | None, because: str
) -> None:
    question = asked(monkeypatch, same)
    assert question is not None
    assert question.startswith("publish odoo_new as production? ")
    assert because in question
    assert asked(monkeypatch, []) is None
