"""How OPS_ALERT_URLS is read, and who is told of what."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from exporter.alerting.destinations import Destination, read_destinations
from opsdb.alerts.episodes import Severity
from opsdb.errors import UsageError
from opsdb.settings import Settings

URL = "mmost://127.0.0.1:8065/h5xkq3zt1pgj8bdu7rwmcn4eya"


def destinations(urls: str) -> list[Destination]:
    return read_destinations(Settings(alert_urls=SecretStr(urls)))


def one(entry: str) -> Destination:
    [found] = destinations(entry)
    return found


def test_without_words_it_hears_everything() -> None:
    for severity in Severity:
        assert one(URL).wants(severity, ["k"])
        assert one(URL).wants(severity, [])


@pytest.mark.parametrize(
    ("words", "severity", "kinds", "wants"),
    [
        ("critical", "critical", ["k"], True),
        ("critical", "warning", ["k"], False),
        ("critical,warning", "warning", ["k"], True),
        ("disk_space", "warning", ["disk_space", "other"], True),
        ("disk_space", "warning", ["other"], False),
        ("disk_space", "critical", [], True),
        ("critical,disk_space", "critical", ["disk_space"], True),
        ("critical,disk_space", "warning", ["disk_space"], False),
    ],
)
def test_words_limit_it(words: str, severity: str, kinds: list[str], wants: bool) -> None:
    assert one(f"{words}={URL}").wants(Severity(severity), kinds) is wants


def test_an_equals_sign_in_the_address_is_the_addresss() -> None:
    found = one(f"{URL}/?to=ops-alerts")
    assert (found.severities, found.kinds) == (frozenset(), frozenset())


def test_name_is_stable_and_tells_nothing() -> None:
    assert one(URL).name == one(f"critical={URL}").name
    assert one(URL).name.startswith("mmost-")
    assert one(URL).name != one(URL + "x").name


def test_nothing_set_is_nobody() -> None:
    assert destinations("  ") == []


def test_wrong_entry_is_named_by_its_number() -> None:
    with pytest.raises(UsageError, match=r"entry 2 \(nope://...\)"):
        destinations(f"{URL} nope://secret")
