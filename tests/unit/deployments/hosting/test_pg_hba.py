"""The lines of pg_hba.conf, and the values that are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from deployments.hosting.pg_hba import FILE, PG_HBA, PgHbaValues
from deployments.hosting.template import render


def lines(values: dict[str, Any]) -> list[str]:
    text = render(PG_HBA, PgHbaValues.model_validate(values))[FILE]
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_each_login_comes_in_over_tls_from_its_addresses_and_nobody_else_does() -> None:
    room = {"login": "room", "addresses": ["10.0.0.4/32", "fd00::4/128"], "proof": "both"}
    readers = [{"login": "superset", "addresses": ["10.0.0.5/32"]}, {"login": "all", "addresses": ["10.0.1.0/24"]}]
    assert lines({"logins": [room, *readers], "room_login": "room"}) == [
        'hostssl "ops","prefect" "room" 10.0.0.4/32 scram-sha-256 clientcert=verify-full',
        'hostssl "ops","prefect" "room" fd00::4/128 scram-sha-256 clientcert=verify-full',
        'hostssl "ops" "superset" 10.0.0.5/32 scram-sha-256',
        'hostssl "ops" "all" 10.0.1.0/24 scram-sha-256',
        'host "ops","prefect" all all reject',
    ]


@pytest.mark.parametrize(
    ("login", "wrong"),
    [
        ({"login": "superset"}, "addresses"),
        ({"login": "superset", "addresses": []}, "at least one address"),
        ({"login": "superset", "addresses": ["0.0.0.0/0"]}, "is everybody"),
        ({"login": "superset", "addresses": ["0.0.0.0/1", "128.0.0.0/1"]}, "is everybody"),
        ({"login": "superset", "addresses": ["::/0"]}, "is everybody"),
        ({"login": "superset", "addresses": ["10.0.0.5/24"]}, "host bits"),
        ({"login": "superset", "addresses": ["<MONITOR_IP>/32"]}, "an IP address"),
        ({"login": 'x" all all trust\n', "addresses": ["10.0.0.5/32"]}, "login"),
        ({"login": "superset", "addresses": ["10.0.0.5/32"], "proof": "trust"}, "proof"),
        ({"login": "superset", "addresses": ["10.0.0.5/32"], "method": "trust"}, "method"),
    ],
)
def test_value_that_would_open_the_server_is_refused(login: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValidationError, match=wrong):
        PgHbaValues.model_validate({"logins": [login]})


def test_certificate_bears_the_logins_name_and_no_wider_network_comes_first() -> None:
    assert lines({"logins": "worker@10.0.0.0/8+10.1.0.0/16+fd00::/64+10.1.2.3@certificate"})[:-1] == [
        'hostssl "ops" "worker" 10.1.2.3/32 cert clientcert=verify-full',
        'hostssl "ops" "worker" 10.1.0.0/16 cert clientcert=verify-full',
        'hostssl "ops" "worker" 10.0.0.0/8 cert clientcert=verify-full',
        'hostssl "ops" "worker" fd00::/64 cert clientcert=verify-full',
    ]


def test_login_that_is_given_twice_is_refused() -> None:
    one = {"login": "superset", "addresses": ["10.0.0.5/32"]}
    with pytest.raises(ValidationError, match="superset: give each login once"):
        PgHbaValues.model_validate({"logins": [one, one]})


def test_short_form_means_the_same() -> None:
    long = [
        {"login": "room", "addresses": ["10.0.0.4", "fd00::4"], "proof": "both"},
        {"login": "superset", "addresses": ["10.0.0.5/32"]},
    ]
    assert lines({"logins": "room@10.0.0.4+fd00::4@both, superset@10.0.0.5/32"}) == lines({"logins": long})
    for wrong in ("superset", "superset@", "@10.0.0.5", "superset@10.0.0.5@trust"):
        with pytest.raises(ValidationError, match=r"LOGIN@NETWORK|proof"):
            PgHbaValues.model_validate({"logins": wrong})


def test_login_of_the_room_is_among_them() -> None:
    with pytest.raises(ValidationError, match="room_login: room is not among the logins"):
        PgHbaValues.model_validate({"logins": "superset@10.0.0.5", "room_login": "room"})
