"""Prefect's own suite for block types, and what their forms let in and show."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr, ValidationError

from blocks.block_types import BLOCK_TYPES
from blocks.odoo_host import OdooHost
from blocks.ops_database import OpsDatabase
from opsdb.database import driver_url
from opsdb.setting_checks import POSTGRESQL_URL
from tests.support.hostile import HARMLESS, HOSTILE

OWN = [one for one in BLOCK_TYPES if not one.__module__.startswith("prefect")]
LOGIN: dict[str, Any] = {"host": "db.example", "database": "opsroom", "user": "reader"}


@pytest.mark.parametrize("block", OWN, ids=lambda block: block.__name__)
class TestOwnBlocks(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[Block]:  # the suite wants it; the parametrization above goes first
        raise NotImplementedError

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        # a picture would have to come from the internet at each look at the form
        assert block._logo_url is None


@pytest.mark.parametrize("block", OWN, ids=lambda block: block.__name__)
def test_form_has_a_title_for_each_field_and_a_password_field_for_each_secret(block: type[Block]) -> None:
    schema = block.model_json_schema()
    for name, field in schema["properties"].items():
        assert field.get("title"), name
        assert "anyOf" not in field, f"{name}: the form shows a choice with null, and secrets in the open"
    for name in schema["secret_fields"]:
        assert schema["properties"][name]["format"] == "password"


def test_password_is_a_secret_field_and_an_odoo_host_has_none() -> None:
    assert OpsDatabase.model_json_schema()["secret_fields"] == ["password"]
    assert OdooHost.model_json_schema()["secret_fields"] == []


@pytest.mark.parametrize("name", ["ssh_destination", "repo_dir", "compose_file", "service", "health_url"])
def test_odoo_host_refuses_hostile_texts(name: str) -> None:
    accepted = []
    for text in HOSTILE:
        try:
            OdooHost(**{name: text})
        except (ValidationError, UnicodeEncodeError):
            continue
        if text and not HARMLESS.fullmatch(text):
            accepted.append(text)
    # a destination may name a user or be an IPv6 address, and nothing of it is an option: `--` stands before it
    assert accepted == (["good:x", "go:xod", "go@od"] if name == "ssh_destination" else [])


@pytest.mark.parametrize("name", ["host", "database", "user"])
def test_ops_database_refuses_hostile_texts(name: str) -> None:
    accepted = []
    for text in HOSTILE:
        try:
            OpsDatabase(**{**LOGIN, name: text})
        except (ValidationError, UnicodeEncodeError):
            continue
        accepted.append(text)
    fine = {"host": r"[a-z/.]+(:x)?|go:xod", "database": r"go@?od@?", "user": r"go@?od@?"}[name]
    assert [text for text in accepted if not re.fullmatch(fine, text) or ".." in text] == []


@pytest.mark.parametrize("password", ["", "plain", "p@ss/w#rd?&=%:", "é '\"\\ $(id)\n", "%2F"])
@pytest.mark.parametrize("host", ["db.example", "192.0.2.7", "2001:db8::7", "/var/run/postgresql"])
def test_url_means_the_same_to_libpq_and_to_the_room(host: str, password: str) -> None:
    block = OpsDatabase(**{**LOGIN, "host": host, "port": 5433, "password": SecretStr(password), "sslmode": "require"})
    url = block.url().get_secret_value()
    assert POSTGRESQL_URL.fullmatch(url)
    wanted = {"host": host, "port": "5433", "dbname": "opsroom", "user": "reader"}
    wanted |= {"password": password} if password else {}
    wanted |= {} if host.startswith("/") else {"sslmode": "require"}
    assert conninfo_to_dict(url) == wanted
    ours = driver_url(url)
    assert (ours.password or "") == password
    assert ours.host == host or ours.query["host"] == host


def test_secret_is_in_no_repr() -> None:
    block = OpsDatabase(**LOGIN, password=SecretStr("correct-horse"))
    assert "correct-horse" not in f"{block!r} {block} {block.url()} {block.url()!r} {block.model_dump_json()}"
    assert "correct-horse" in block.url().get_secret_value()
