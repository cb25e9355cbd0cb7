"""Which names in a `Host` are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsdb.errors import UsageError
from opsdb.settings import Settings, load_settings
from opsdb.web.hosts import LOOPBACK, host_name, host_refusal


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:4200", "127.0.0.1"),
        ("LOCALHOST:1", "localhost"),
        ("localhost.", "localhost"),
        ("localhost.:4200", "localhost"),
        ("localhost:", "localhost"),
        ("[::1]", "::1"),
        ("[::1]:4200", "::1"),
        ("[0:0:0:0:0:0:0:1]:4200", "::1"),
        (" ops.example.org\t", "ops.example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_one_host_has_one_spelling(authority: str, name: str) -> None:
    assert host_name(authority) == name


@pytest.mark.parametrize(
    "authority",
    [
        "",
        ".",
        "..",
        ":4200",
        "::1",
        "::1:4200",
        "[]",
        "[::1",
        "[::1]x",
        "[::1%lo]",
        "[localhost]",
        "[127.0.0.1]",
        "me@127.0.0.1",
        "me:secret@127.0.0.1",
        "127.0.0.1/",
        "127.0.0.1#@evil.example",
        "127.0.0.1,evil.example",
        "127.0.0.1 evil.example",
        "127.0.0.1:4200:80",
        "127.0.0.1:a",
        "localhost\0",
        "localhost\n",
        "bücher.example",
        "\u017focalhost",
        "%6cocalhost",
    ],
)
def test_what_is_no_host_is_refused(authority: str) -> None:
    assert host_name(authority) is None
    assert host_refusal(authority, LOOPBACK) == (400, "the request has no valid Host header\n")


@pytest.mark.parametrize(
    "authority",
    [
        "evil.example",
        "localhost.evil.example",
        "evil-localhost",
        "localhost..",
        "127.1",
        "127.0.0.2",
        "2130706433",
        "0x7f.0.0.1",
        "10.0.0.5",
        "0.0.0.0",  # noqa: S104  # nothing listens there
        "[::]",
        "[::ffff:127.0.0.1]",
    ],
)
def test_host_that_is_not_known_is_refused_with_the_setting(authority: str) -> None:
    refusal = host_refusal(authority, LOOPBACK)
    assert refusal is not None
    assert refusal[0] == 421
    assert "OPS_ALLOWED_HOSTS" in refusal[1]


@given(st.text())
def test_refusal_is_one_plain_line_whatever_was_sent(authority: str) -> None:
    refusal = host_refusal(authority, ())
    assert refusal is not None
    assert refusal[1].isascii()
    assert refusal[1].strip("\n").isprintable()
    assert len(refusal[1]) < 400


def test_missing_host_is_refused() -> None:
    assert host_refusal(None, LOOPBACK) is not None


def test_known_are_loopback_the_address_of_the_ui_and_what_is_set() -> None:
    assert Settings().known_hosts == LOOPBACK
    assert Settings(server_url="https://Ops.example.org:8443/x").known_hosts == LOOPBACK | {"ops.example.org"}
    assert Settings(server_url="https://[2001:DB8::1]:8443").known_hosts == LOOPBACK | {"2001:db8::1"}
    named = Settings(allowed_hosts="ops.example.net.  10.0.0.5 OPS")
    assert named.known_hosts == LOOPBACK | {"ops.example.net", "10.0.0.5", "ops"}


@pytest.mark.parametrize("value", ["a,b", "https://a", "a:80", "*", "*.example.org", "[::1]:80", "a/b", "ok me@b"])
def test_setting_that_is_no_list_of_hosts_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_ALLOWED_HOSTS", value)
    with pytest.raises(UsageError, match=r"OPS_ALLOWED_HOSTS: .*not a host name or IP address"):
        load_settings()


@pytest.mark.parametrize("value", ["::1", "[::1]", "2001:db8::5"])
def test_setting_takes_ipv6_as_people_write_it(value: str) -> None:
    assert value.strip("[]") in Settings(allowed_hosts=value).known_hosts
