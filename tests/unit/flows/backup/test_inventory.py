"""The packed inventory of a manifest."""

from __future__ import annotations

import base64
import zlib

import pytest

from flows.backup.grants import roles_in, with_roles
from flows.backup.inventory import Definition, Inventory, unquoted
from opsdb.errors import StepFailedError

OBJECTS = {"index": {"public.i": Definition("USING btree (a)")}, "table": {"public.t": Definition("p")}, "rule": {}}


def test_inventory_gives_back_what_was_packed() -> None:
    inventory = Inventory.of(OBJECTS)
    assert inventory.counts == {"index": 1, "table": 1}
    assert inventory.texts() == {"index": {"public.i": "USING btree (a)"}, "table": {"public.t": "p"}}


def packed(plain: bytes) -> str:
    return base64.b85encode(zlib.compress(plain)).decode()


@pytest.mark.parametrize(
    "text", ["", "not base 85 \x7f", Inventory.of(OBJECTS).packed[:-10], packed(b"{"), packed(b'{"index": 1}')]
)
def test_inventory_that_is_cut_off_is_refused(text: str) -> None:
    with pytest.raises(StepFailedError, match="the manifest's list of objects cannot be unpacked"):
        Inventory(counts={}, packed=text).texts()


def test_names_are_the_same_on_a_version_with_more_key_words() -> None:
    assert unquoted('public.ir_default."json_value"') == "public.ir_default.json_value"
    assert unquoted('public."Odd name"') == 'public."Odd name"'


def test_roles_are_found_and_changed_in_entries() -> None:
    text = '[[["odoo"], "SELECT", false], [["reader"], "SELECT", true], [[""], "SELECT", false]]'
    assert roles_in(text) == {"odoo", "reader"}
    assert (
        with_roles(text, {"odoo": "test", "reader": None}) == '[[[""], "SELECT", false], [["test"], "SELECT", false]]'
    )
