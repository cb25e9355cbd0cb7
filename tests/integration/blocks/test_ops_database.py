"""The block `OpsDatabase` on a real PostgreSQL: what its test finds, and that no password gets out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text

from blocks.check import Check
from blocks.ops_database import OpsDatabase
from opsdb.settings import Settings
from tests.integration.blocks.conftest import PASSWORD
from tests.support.children import free_port
from tests.support.silent_server import silent_server

Admin = psycopg.Connection[tuple[object, ...]]


def block(settings: Settings, login: str = "postgres", **changes: Any) -> OpsDatabase:
    url = make_url(settings.ops_url)
    facts = {"host": url.query["host"], "database": url.database, "user": login, "password": SecretStr(PASSWORD)}
    return OpsDatabase(**facts | changes)


def wrong(checks: list[Check]) -> dict[str, str]:
    assert not any(part in repr(checks) for part in (PASSWORD, "h@rse", unquote(PASSWORD), "battery"))
    return {check.subject: check.found for check in checks if not check.ok}


def test_writer_is_well_when_it_should_write_and_told_when_it_should_not(settings: Settings) -> None:
    checks = block(settings, may_write=True).check()
    assert wrong(checks) == {}
    assert [check.subject for check in checks] == ["reached", "TLS", "schema", "rights", "clock"]
    assert wrong(block(settings).check()) == {"rights": "may read and write"}


def test_reader_gets_in_with_its_password_and_reads(
    settings: Settings, admin: Admin, login: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    admin.execute(f"GRANT ops_monitor TO {login}")
    assert wrong(block(settings, login).check()) == {}
    assert wrong(block(settings, login, may_write=True).check()) == {"rights": "may read, and not write"}
    engine = block(settings, login).engine()
    with engine.connect() as db:
        assert db.execute(text("SELECT count(*) FROM stuck_runs")).scalar_one() == 0
    engine.dispose()
    assert PASSWORD not in repr(engine) + caplog.text


def test_writer_takes_on_the_role_as_a_worker_does(settings: Settings, admin: Admin, login: str) -> None:
    admin.execute(f"GRANT ops_writer TO {login} WITH INHERIT FALSE, SET TRUE")
    writer = block(settings, login, may_write=True)
    assert wrong(writer.check()) == {}
    engine = writer.engine()
    with engine.connect() as db:
        assert db.execute(text("SELECT count(*) FROM runs")).scalar_one() == 0
    engine.dispose()
    assert wrong(block(settings, login).check()) == {"rights": "may not read the schema `ops`"}


def test_rights_without_the_role_are_no_use_to_a_worker_and_show_a_reader_no_rows(
    settings: Settings, admin: Admin, login: str
) -> None:
    admin.execute(f"GRANT USAGE ON SCHEMA ops TO {login}")
    admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA ops TO {login}")
    assert wrong(block(settings, login).check()) == {"rights": "may read, but row-level security shows it no rows"}
    admin.execute(f"GRANT ops_monitor TO {login}")
    assert wrong(block(settings, login).check()) == {}
    admin.execute(f"GRANT INSERT, UPDATE ON ops.runs TO {login}")
    assert list(wrong(block(settings, login).check())) == ["rights"]
    assert list(wrong(block(settings, login, may_write=True).check())) == ["rights"]


def test_login_without_rights_is_told(settings: Settings, login: str) -> None:
    assert wrong(block(settings, login).check()) == {"rights": "may not read the schema `ops`"}


def test_wrong_password_is_told(settings: Settings, login: str) -> None:
    found = wrong(block(settings, login, password=SecretStr(f"{PASSWORD}x")).check())
    assert list(found) == ["reached"]
    assert f'password authentication failed for user "{login}"' in found["reached"]


def test_database_without_the_schema_is_told(settings: Settings, empty_database: str) -> None:
    empty = make_url(empty_database).database
    assert wrong(block(settings, database=empty, may_write=True).check()) == {"schema": "there is no schema `ops`"}


@pytest.mark.parametrize(("revision", "words"), [("0001", "older than"), ("9999", "does not know")])
def test_schema_of_another_version_is_told(settings: Settings, admin: Admin, revision: str, words: str) -> None:
    admin.execute("UPDATE ops.alembic_version SET version_num = %s", [revision])
    found = wrong(block(settings, may_write=True).check())
    assert list(found) == ["schema"]
    assert words in found["schema"]


def test_missing_database_and_unreachable_server_are_told(settings: Settings, tmp_path: Path) -> None:
    assert "does not exist" in wrong(block(settings, database="no_such_database").check())["reached"]
    assert "No such file" in wrong(block(settings, host=str(tmp_path)).check())["reached"]
    assert "refused" in wrong(block(settings, host="127.0.0.1", port=free_port()).check())["reached"]


def test_server_that_says_nothing_is_given_up(settings: Settings) -> None:
    with silent_server() as port:
        began = time.monotonic()
        assert list(wrong(block(settings, host="127.0.0.1", port=port).check())) == ["reached"]
        assert time.monotonic() - began < 8
