"""The restored database is the application's: its role owns it, Odoo lists it, and what stood around it is back."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from flows.backup import filestore
from flows.backup.pinned import pin_settings
from flows.backup.properties import Properties, read_properties
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_restore_drill import odoo_restore_drill
from flows.restore.properties import foresee
from opsdb.errors import PreflightError, StepFailedError
from tests.support.backups import manifest_at, rewrite
from tests.support.postgres import databases

# What Odoo 18 asks in service/db.py before it lists databases.
LISTED = """
SELECT datname FROM pg_database WHERE datdba = (SELECT usesysid FROM pg_user WHERE usename = current_user)
AND NOT datistemplate AND datallowconn ORDER BY datname
"""


@pytest.fixture
def role(postgres: str, database: str) -> Iterator[str]:
    """A role that owns the database and all in it, and a reader, `_ro`, with rights and settings."""
    name = database.replace("shop", "app")
    with psycopg.connect(postgres.format(database=database), autocommit=True) as db:
        for statement in (
            "CREATE ROLE {app} LOGIN CREATEDB",
            "CREATE ROLE {ro} LOGIN",
            "ALTER DATABASE {db} OWNER TO {app}",
            "REVOKE CONNECT, TEMPORARY ON DATABASE {db} FROM PUBLIC",
            "GRANT CONNECT ON DATABASE {db} TO {ro} WITH GRANT OPTION",
            'ALTER DATABASE {db} SET search_path = "$user", public, \'od"d\'',
            "ALTER DATABASE {db} SET TimeZone = 'Asia/Kolkata'",
            "ALTER DATABASE {db} SET app.flag = 'it''s; on'",
            "ALTER ROLE {ro} IN DATABASE {db} SET default_transaction_read_only = on",
            "ALTER DATABASE {db} CONNECTION LIMIT 7",
            "COMMENT ON DATABASE {db} IS 'Odoo''s'",
            "ALTER TABLE line OWNER TO {app}",
            "GRANT SELECT ON line TO {ro}",
            "GRANT UPDATE (name) ON line TO {ro}",
            "GRANT CREATE ON SCHEMA public TO PUBLIC",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {app} GRANT SELECT ON TABLES TO {ro}",
            "REVOKE ALL ON FUNCTION lo_get(oid) FROM PUBLIC",
        ):
            names = {"db": database, "app": name, "ro": f"{name}_ro"}
            db.execute(sql.SQL(statement).format(**{key: sql.Identifier(value) for key, value in names.items()}))
    yield name
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        for database_name in databases(postgres):
            if database_name.startswith(database):
                db.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(database_name)))
        for one in (name, f"{name}_ro"):
            db.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(one)))


def properties(postgres: str, database: str) -> Properties:
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        pin_settings(db, statement_seconds=9)
        found = read_properties(db, database)
    assert found is not None
    return found


def as_role(postgres: str, role: str, database: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(postgres.format(database=database).replace("postgres@", f"{role}@"), autocommit=True)


@pytest.mark.promise(11)
def test_restored_database_is_the_applications(postgres: str, database: str, role: str) -> None:
    before = properties(postgres, database)
    result = odoo_db_restore(f"{database}_new", Path(odoo_db_backup(database)["file"]).name)
    assert result["not_restored"] == []
    assert properties(postgres, f"{database}_new") == before
    assert result["objects_compared"]["owner"] == 5
    with as_role(postgres, role, f"{database}_new") as db:
        assert {f"{database}_new", database} <= {name for (name,) in db.execute(LISTED).fetchall()}
        db.execute("CREATE TABLE public.made_by_a_module (id serial)")
        db.execute("ALTER TABLE line ADD COLUMN more int")
        assert db.execute("SHOW search_path").fetchone() == ('"$user", public, "od""d"',)
    with as_role(postgres, f"{role}_ro", f"{database}_new") as db:
        assert db.execute("SHOW default_transaction_read_only").fetchone() == ("on",)
        assert db.execute("SELECT count(*) FROM made_by_a_module").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("SELECT * FROM empty_one")


@pytest.mark.promise(11)
def test_missing_role_is_named_mapped_or_left_out(postgres: str, database: str, role: str) -> None:
    dump = Path(odoo_db_backup(database)["file"]).name
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'DROP DATABASE "{database}"')
        db.execute(f'DROP ROLE "{role}"')
        db.execute(f'DROP ROLE "{role}_ro"')
        db.execute(f'CREATE ROLE "{role}_ro"')  # of another server, one is there
    there = databases(postgres)
    with pytest.raises(
        PreflightError, match=rf"'{role}' \(line \d+ of its roles: CREATE ROLE {role};\). Hint: create them"
    ):
        odoo_db_restore(f"{database}_new", dump)
    with pytest.raises(PreflightError, match="the server has no role 'nobody'"):
        odoo_db_restore(f"{database}_new", dump, roles={role: "nobody"})
    with pytest.raises(PreflightError, match="the backup needs no role 'typo'"):
        odoo_db_restore(f"{database}_new", dump, roles={"typo": "postgres"})
    assert databases(postgres) == there

    odoo_db_restore(f"{database}_mapped", dump, roles={role: f"{role}_ro"})
    assert properties(postgres, f"{database}_mapped").owner == f"{role}_ro"
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'DROP DATABASE "{database}_mapped"')
        db.execute(f'DROP ROLE "{role}_ro"')
        db.execute(f'CREATE ROLE "{role}"')
    result = odoo_db_restore(f"{database}_left", dump, missing_roles="leave")
    assert (properties(postgres, f"{database}_left").owner, result["not_restored"]) == (role, [])


@pytest.mark.promise(12)
def test_superuser_gets_nothing_that_was_another_roles(postgres: str, database: str, role: str) -> None:
    dump = Path(odoo_db_backup(database)["file"]).name
    with pytest.raises(PreflightError, match="'postgres' is a superuser"):
        odoo_db_restore(f"{database}_mapped", dump, roles={role: "postgres"})
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'DROP DATABASE "{database}"')
        db.execute(f'DROP ROLE "{role}"')
    with pytest.raises(PreflightError, match="the server lacks") as refused:
        odoo_db_restore(f"{database}_left", dump)
    assert "missing_roles=leave" not in str(refused.value)  # it would be refused, as follows
    with pytest.raises(PreflightError, match=rf"what belongs to '{role}' would go to 'postgres', a superuser"):
        odoo_db_restore(f"{database}_left", dump, missing_roles="leave")
    assert not [name for name in databases(postgres) if name.startswith(database)]


@pytest.mark.promise(11)
def test_what_a_role_without_rights_cannot_bring_back_is_named(
    postgres: str, database: str, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f"ALTER DATABASE \"{database}\" SET log_statement = 'all'")
    dump = Path(odoo_db_backup(database)["file"]).name
    url = postgres.format(database="postgres").replace("postgres@", f"{role}@")
    monkeypatch.setenv("OPS_ODOO_DATABASE_URL", url)
    with as_role(postgres, role, "postgres") as server:
        assert foresee(server, properties(postgres, database), owners={role, "postgres"}) == [
            f"what belongs to 'postgres' in it, which '{role}' is not a member of",
            "its setting log_statement",
            f"the settings of role '{role}_ro' in it",
        ]
    result = odoo_db_restore(f"{database}_new", dump)
    told = "; ".join(result["not_restored"])
    assert "settings differ (permission denied to set parameter" in told
    assert "role settings differ (" in told
    assert properties(postgres, f"{database}_new").owner == role


def name_of(content: bytes) -> str:
    sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    return f"{sha1[:2]}/{sha1}"


@pytest.fixture
def attachments(postgres: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Odoo's filestore: two files that three rows name, one that is lost, a marker, and names that are none."""
    store = tmp_path / "filestore" / database
    with psycopg.connect(postgres.format(database=database), autocommit=True) as db:
        db.execute("CREATE TABLE ir_attachment (id serial, store_fname varchar)")
        for content in (b"one", b"one", b"two", b"lost"):
            db.execute("INSERT INTO ir_attachment (store_fname) VALUES (%s)", (name_of(content),))
            if content != b"lost":
                (store / name_of(content)).parent.mkdir(parents=True, exist_ok=True)
                (store / name_of(content)).write_bytes(content)
        db.execute("INSERT INTO ir_attachment (store_fname) VALUES (NULL), ('../../etc/passwd'), ('s3://bucket/x')")
    (store / "checklist" / "ab").mkdir(parents=True)
    (store / "checklist" / "ab" / "abcd").touch()
    monkeypatch.setenv("OPS_FILESTORE_DIR", str(store.parent))
    return store


def replace_archive(dump: Path, change: dict[str, bytes | None]) -> None:
    """Give the backup another archive, with sums that fit."""
    archive = Path(f"{dump}.filestore.tar.gz")
    with tarfile.open(archive) as opened:
        read = {one.name.removeprefix("./"): opened.extractfile(one) for one in opened if one.isreg()}
        files = {name: file.read() for name, file in read.items() if file}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as made:
        for name, content in (files | change).items():
            if content is not None:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                made.addfile(member, io.BytesIO(content))
    written = gzip.compress(plain.getvalue())
    archive.write_bytes(written)
    manifest = manifest_at(Path(f"{dump}.json"))
    assert manifest is not None
    assert manifest.filestore is not None
    sums = {"size_bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}
    rewrite(dump, filestore=manifest.filestore.model_copy(update=sums))


@pytest.mark.promise(11)
def test_archive_without_an_attachment_is_found_and_what_was_lost_before_is_not(
    database: str, attachments: Path, tmp_path: Path
) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    manifest = manifest_at(Path(f"{dump}.json"))
    assert manifest is not None
    assert manifest.attachments is not None
    assert (manifest.attachments.named, manifest.attachments.lost) == (3, [name_of(b"lost")])
    assert odoo_restore_drill(database)["attachments_compared"] == 3
    odoo_db_restore(f"{database}_new", dump.name, filestore_dir=str(tmp_path / "new"))
    for change, wrong in (
        ({name_of(b"one"): b"other"}, f"attachment {name_of(b'one')} is damaged"),
        ({name_of(b"one"): b"one", name_of(b"two"): None}, f"attachment {name_of(b'two')} is missing"),
    ):
        replace_archive(dump, change)  # type: ignore[arg-type]  # a literal's type is narrower
        with pytest.raises(StepFailedError, match=wrong):
            odoo_restore_drill(database)


@pytest.mark.promise(11)
def test_attachment_that_the_archive_has_not_got_fails_the_backup(
    database: str, attachments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, aside = attachments / name_of(b"one"), attachments.parent / "aside"
    monkeypatch.setattr(filestore, "ARCHIVE", f"mv {file} {aside}\n{filestore.ARCHIVE}\nmv {aside} {file}")
    with pytest.raises(StepFailedError, match=f"1 attachments are in {attachments} and not in its archive"):
        odoo_db_backup(database)
