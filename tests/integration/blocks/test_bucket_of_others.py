"""What others have in a bucket: it is listed whole, and neither overwritten nor deleted."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from blocks.target_bucket import BucketStore
from blocks.target_store import TargetError, silent
from tests.integration.blocks.refusing_stores import STORES, make
from tests.support.picky_store import Kept, PickyStore, Unfinished
from tests.support.store_manners import Manners

pytestmark = pytest.mark.usefixtures("small_parts", "one_session", "names_lead_here")


@pytest.mark.gate
@pytest.mark.parametrize("name", ["knows all", "newer listing", "newer listing ignored", "delimiter", "all of that"])
def test_listing_of_many_pages_is_whole(serve: Callable[..., PickyStore], name: str) -> None:
    there = serve(STORES[name][0], page_size=3)
    for number in range(8):
        for key in (f"odoo/{number}", f"odoo/deep/{number}", f"else/{number}", f"odoo-else/{number}"):
            there.objects[key] = Kept(b"x", '""')
    assert there.store().sizes() == {str(number): 1 for number in range(8)}


@pytest.mark.gate
def test_listing_that_does_not_go_on_is_an_error_and_not_the_whole(serve: Callable[..., PickyStore]) -> None:
    there = serve(Manners(ignores=frozenset({"list-type", "marker"})), page_size=3)
    there.objects |= {f"odoo/{number}": Kept(b"x", '""') for number in range(8)}
    with pytest.raises(TargetError, match="lists its objects up to a point, and not beyond it: give the room a bucket"):
        there.store().sizes()


@pytest.mark.gate
@pytest.mark.parametrize(  # between a last look and a request nobody can see a file come without the condition
    ("name", "kibibytes"), [("knows all", 10), ("knows all", 300), ("condition", 300), ("all of that", 300)]
)
def test_file_that_came_while_another_was_sent_is_neither_overwritten_nor_deleted(
    serve: Callable[..., PickyStore], tmp_path: Path, name: str, kibibytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = serve(STORES[name][0])
    file, sha256 = make(tmp_path, kibibytes, "a.dump")

    def come(_done: int = 0) -> None:
        there.objects["odoo/a.dump"] = Kept(b"theirs", '""')

    def look(store: BucketStore, it: str) -> bool:
        found = really(store, it)
        if next(looks) == last:
            come()
        return found

    really, looks, last = BucketStore._is_there, itertools.count(1), 1 if kibibytes == 10 else 2
    if name == "knows all":
        monkeypatch.setattr(BucketStore, "_is_there", look)
    with pytest.raises(TargetError, match="already exists with other content"):
        there.store().put(file, sha256=sha256, tell=silent if name == "knows all" else come)
    assert there.objects["odoo/a.dump"].body == b"theirs"


@pytest.mark.gate
def test_upload_that_breaks_before_its_end_deletes_nothing_of_that_name(
    serve: Callable[..., PickyStore], tmp_path: Path
) -> None:
    there = serve()
    file, sha256 = make(tmp_path, 300, "a.dump")

    def come_and_break(_done: int) -> None:
        there.objects["odoo/a.dump"] = Kept(b"theirs", '""')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        there.store().put(file, sha256=sha256, tell=come_and_break)
    assert there.objects["odoo/a.dump"].body == b"theirs"


@pytest.mark.gate
def test_unfinished_uploads_of_others_stay_where_a_store_lists_more_than_was_asked_for(
    serve: Callable[..., PickyStore],
) -> None:
    there = serve()  # it lists all, whatever the prefix
    for key in ("odoo/a.dump", "a.dump", "else/a.dump"):
        there.unfinished[key] = Unfinished(key, sums=False)
    assert there.store().drop_unfinished(lambda name: name == "a.dump") == ["a.dump"]
    assert set(there.unfinished) == {"a.dump", "else/a.dump"}
