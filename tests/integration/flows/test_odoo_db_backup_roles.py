"""Who dumps: a role that sees every row, with a password that nobody sees."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from flows.backup import database as checks
from flows.odoo_db_backup import odoo_db_backup
from opsdb.errors import PreflightError, StepFailedError
from tests.support.folders import names
from tests.support.waiting import wait_for


def role(postgres: str, database: str, statements: str) -> str:
    """A new role, made known in `database` by statements with `{role}` in them."""
    name = f"role_of_{database}"
    with psycopg.connect(postgres.format(database=database), autocommit=True) as db:
        db.execute(f"CREATE ROLE {name} LOGIN".encode())
        for statement in statements.split(";"):
            db.execute(statement.format(role=name).encode())
    return name


def as_role(url: str, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_ODOO_DATABASE_URL", url.replace("//postgres@", f"//{user}@"))


def test_role_limited_by_row_security_is_refused(
    postgres: str, database: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = "ALTER TABLE line ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON line FOR SELECT USING (id < 10)"
    limited = role(postgres, database, f"GRANT pg_read_all_data TO {{role}}; {rules}")
    as_role(postgres.format(database=database), limited, monkeypatch)
    with pytest.raises(PreflightError, match=r"row-level security hides rows of public\.line .*BYPASSRLS"):
        odoo_db_backup(database)
    assert not folder.exists()

    # and where preflight did not see it, pg_dump fails rather than leave rows out
    monkeypatch.setattr(checks, "check_readable", lambda _db: None)
    with pytest.raises(StepFailedError, match="row-level security"):
        odoo_db_backup(database)
    assert names(folder) == set()


def test_role_that_may_not_read_a_table_is_refused(
    postgres: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = role(postgres, database, "GRANT SELECT ON line, line_id_seq TO {role}")
    as_role(postgres.format(database=database), blind, monkeypatch)
    with pytest.raises(PreflightError, match=r"may not read public\.empty_one: GRANT pg_read_all_data"):
        odoo_db_backup(database)


@pytest.fixture
def password_login(postgres: str, short_folder: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The Odoo server's URL with the password of a superuser who is asked for it; the room is set to it."""
    user = role(postgres, database, "ALTER ROLE {role} SUPERUSER PASSWORD 'hidden-w:rd\\x'")
    rules = short_folder / "postgres" / "pg_hba.conf"
    before = rules.read_text()
    reload = "SELECT pg_reload_conf()"
    rules.write_text(f"local all {user} scram-sha-256\n{before}")
    with psycopg.connect(postgres.format(database="postgres")) as db:
        db.execute(reload)
    url = postgres.format(database=database).replace("//postgres@", f"//{user}:hidden-w%3Ard%5Cx@")
    wait_for(lambda: not can_connect(url.replace("hidden", "wrong")) and can_connect(url))
    monkeypatch.setenv("OPS_ODOO_DATABASE_URL", url)
    yield url
    rules.write_text(before)
    with psycopg.connect(postgres.format(database="postgres")) as db:
        db.execute(reload)


def can_connect(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_password_reaches_pg_dump_and_is_seen_nowhere(
    database: str,
    password_login: str,
    tmp_path: Path,
    stand_in: Callable[[str], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    seen = tmp_path / "seen"
    look = f'cat /proc/$$/environ /proc/$$/cmdline /proc/$PPID/environ /proc/$PPID/cmdline >"{seen}"\nenv >&2'
    stand_in(f'{look}\nexec "$REAL" "$@"')
    result = odoo_db_backup(database)
    assert b"PGPASSFILE=" in seen.read_bytes()
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != Path(result["file"])]
    assert len(written) >= 4  # manifest, logs of two steps, what was seen
    for path in written:
        assert b"hidden-w" not in path.read_bytes(), path
    assert "hidden-w" not in "".join(capfd.readouterr())
    passfile = next(value for value in seen.read_bytes().split(b"\0") if value.startswith(b"PGPASSFILE="))
    assert not Path(passfile.decode().partition("=")[2]).exists()


def test_wrong_password_fails_at_once_and_asks_nobody(
    database: str, password_login: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPS_ODOO_DATABASE_URL", password_login.replace("hidden", "wrong"))
    started = time.monotonic()
    with pytest.raises(PreflightError, match="password authentication failed") as caught:
        odoo_db_backup(database)
    assert "wrong-w" not in str(caught.value)
    assert time.monotonic() - started < 10
