"""`ops db roles` on a server of one's own, whose login is no superuser."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from deployments.hosting.pg_hba import PgHbaValues
from opsdb.migrate import upgrade
from opsdb.rights import ROLES
from opsdb.settings import Settings
from tests.integration.cli.conftest import Ops
from tests.support.documents import ROOT, shell_lines
from tests.support.postgres import running, short_folder


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A superuser's URL of the room's database."""
    with short_folder() as folder, running(folder, hba="local all all trust\n") as url:
        with psycopg.connect(url.format(database="postgres"), autocommit=True) as db:
            db.execute("CREATE ROLE room LOGIN CREATEROLE")
            db.execute("CREATE ROLE plain LOGIN")
            db.execute("CREATE DATABASE opsroom OWNER room TEMPLATE template0")
        yield url.format(database="opsroom")


@pytest.fixture
def settings(server: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, database_url=SecretStr(server.replace("postgres@", "room@")))


def test_roles_are_made_shown_and_left_alone(ops: Ops, server: str, settings: Settings) -> None:
    code, out, _ = ops("db", "roles", "--dry-run")
    assert (code, out.splitlines()[-1][:40]) == (0, "The database has no schema ops yet. Run ")
    upgrade(settings)
    code, out, _ = ops("db", "roles", "--dry-run")
    would = out.splitlines()
    assert (code, would[0], would[1]) == (0, "Would execute:", "CREATE ROLE supabase_admin NOLOGIN;")
    assert ops("db", "roles", "--dry-run")[1] == out  # it was not
    code, out, _ = ops("db", "roles")
    assert (code, out.splitlines()[: len(would)]) == (0, ["Executed:", *would[1:]])
    heading, *table = out.splitlines()[len(would) :]
    code, out, _ = ops("db", "roles")
    assert (code, out.splitlines()) == (0, [f"Nothing to repair. {heading}", *table])
    rows = [line.split()[0] for line in out.splitlines()[2:] if line[0] != " "]
    assert set(ROLES) <= set(rows)
    assert "DELETE, INSERT, SELECT, TRUNCATE, UPDATE" in out

    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute("REVOKE SELECT ON ops.runs FROM ops_monitor")
        admin.execute("GRANT DELETE ON ops.runs TO ops_monitor")
    document = json.loads(ops("db", "roles", "--dry-run", "--json")[1])
    repair = ["REVOKE DELETE ON TABLE ops.runs FROM ops_monitor", "GRANT SELECT ON TABLE ops.runs TO ops_monitor"]
    assert (document["dry_run"], document["statements"]) == (True, repair)
    assert [role["role"] for role in document["roles"]] == list(ROLES)
    assert json.loads(ops("db", "roles", "--json")[1])["statements"] == repair
    assert json.loads(ops("db", "roles", "--json")[1])["statements"] == []


def test_page_makes_the_logins_that_its_lines_of_pg_hba_let_in(ops: Ops, settings: Settings) -> None:
    upgrade(settings)
    lines = [shlex.split(line) for line in shell_lines((ROOT / "docs" / "howto" / "production.md").read_text())]
    for words in lines:
        if words[:2] == ["ops", "db"]:
            code, _, err = ops(*words[1:])
            assert code == 0, err
    made = {one["name"]: one for one in json.loads(ops("db", "logins", "--json")[1])}
    assert {role for one in made.values() for role in one["roles"]} == set(ROLES)
    (rendered,) = [words for words in lines if words[:3] == ["ops", "render", "pg-hba"]]
    let_in = PgHbaValues.model_validate(dict(word.split("=", 1) for word in rendered if "=" in word)).logins
    by_proof = {one.login: one.proof for one in let_in if one.login != "room"}
    assert by_proof == {name: one["proof"] for name, one in made.items()}
    for name in made:
        assert ops("db", "login", name, "--remove")[0] == 0


def test_login_that_may_not_make_roles_says_what_it_lacks(
    ops: Ops, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPS_DATABASE_URL", settings.ops_url.replace("room@", "plain@"))
    code, _, err = ops("db", "roles")
    assert (code, err.count("\n")) == (2, 1)
    assert "the roles of the database could not be repaired: permission denied" in err
    assert "needs CREATEROLE" in err
