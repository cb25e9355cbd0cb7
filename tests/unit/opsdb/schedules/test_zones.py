from __future__ import annotations

import pytest

from opsdb.schedules.zones import read_zone


@pytest.mark.parametrize("name", ["UTC", "Europe/Rome", "Asia/Manila", "America/Argentina/Ushuaia"])
def test_zones_are_found_by_their_names(name: str) -> None:
    assert read_zone(name).key == name


@pytest.mark.parametrize(
    ("name", "near"), [("manila", "Asia/Manila"), ("Europe/Roma", "Europe/Rome"), ("New York", "America/New_York")]
)
def test_nearest_zone_is_named_for_another_word(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"is not a time zone. Did you mean {near}"):
        read_zone(name)


@pytest.mark.parametrize("name", ["Mars/Phobos", "Vulcan", "Lnd"])
def test_far_zone_is_not_offered(name: str) -> None:
    with pytest.raises(ValueError, match="Expected a name as in Europe/Rome"):
        read_zone(name)


def test_zone_of_whatever_host_is_refused() -> None:
    with pytest.raises(ValueError, match="'localtime' is what each host is set to"):
        read_zone("localtime")


@pytest.mark.parametrize("name", ["", "../etc/passwd", "+02:00", "qqqqqqqq"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone"):
        read_zone(name)
