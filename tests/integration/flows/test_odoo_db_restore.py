"""A restore into a new database: whole under its name or not there at all, and never over another one."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flows.backup import folder as folders
from flows.backup.folder import Folder
from flows.backup.keyring import Key
from flows.backup.loading import LOAD
from flows.engine import step
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_restore_drill import odoo_restore_drill
from flows.restore import filestore as unpacking
from flows.restore import load
from flows.restore import restore as restoring
from opsdb.errors import PreflightError, StepFailedError
from tests.integration.flows.conftest import content
from tests.support.backups import make_backup, manifest_at, rewrite, unsigned_text, with_sum
from tests.support.folders import files
from tests.support.postgres import databases
from tests.support.programs import needs_root
from tests.support.tiers import in_soak


@pytest.fixture
def filestore(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Attachments of the database, some with names that programs trip over."""
    parent = tmp_path / "filestore"
    for name in ("ab/abcdef", "cd/cdef01", "ab/-rf", "odd/a\nb", "odd/ż ó"):
        path = parent / database / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 1000)
    (parent / database / "checklist").mkdir()
    monkeypatch.setenv("OPS_FILESTORE_DIR", str(parent))
    return parent / database


def test_restored_database_and_filestore_are_those_of_the_backup(
    postgres: str, database: str, filestore: Path, tmp_path: Path
) -> None:
    made = odoo_db_backup(database)
    dump = Path(made["file"])
    manifest = manifest_at(Path(made["manifest"]))
    assert manifest is not None
    assert manifest.filestore is not None
    assert manifest.filestore.note == "5 files"
    assert {path.stat().st_mode & 0o777 for path in dump.parent.iterdir()} == {0o600}

    new = f"{database}_copy"
    result = odoo_db_restore(new, dump.name, filestore_dir=str(tmp_path / "new"))
    assert (result["database"], result["tables_compared"], result["filestore"]) == (new, 2, str(tmp_path / "new"))
    assert content(postgres.format(database=new)) == content(postgres.format(database=database))
    assert files(tmp_path / "new") == files(filestore)
    with psycopg.connect(postgres.format(database=new)) as db:
        query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
        assert db.execute(query).fetchone() == (None,)
        query = "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'line'"
        assert db.execute(query).fetchone() == (True,)  # the planner knows its rows at once


@pytest.mark.parametrize("claim", ["unsigned", "the room's key", "another key"])
def test_archive_replaced_with_its_manifest_is_refused_before_anything_starts(
    postgres: str, database: str, folder: Path, claim: str
) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    forge(dump, claim)
    before = databases(postgres)
    said = {
        "unsigned": f"{dump.name} is unsigned: anybody may have made it. .*`ops backups sign`.*unsigned=true",
        "the room's key": "forged: the signature of its manifest was not made with the key that it names",
        "another key": f"{dump.name} was signed by another room. .*`ops backups key import`.*unsigned=true",
    }
    with pytest.raises(PreflightError, match=said[claim]):
        odoo_db_restore(f"{database}_new", dump.name)
    if claim == "the room's key":
        with pytest.raises(PreflightError, match="forged"):
            odoo_db_restore(f"{database}_new", dump.name, unsigned=True)
    assert databases(postgres) == before


def forge(dump: Path, claim: str) -> None:
    """What a script without the room's key can do: other bytes, and sums and signatures of its own."""
    path = Path(f"{dump}.json")
    own = json.loads(path.read_text())["signed_by"]
    manifest = manifest_at(path)
    assert manifest is not None
    data = dump.read_bytes() + b"\0"
    dump.write_bytes(data)
    forged = manifest.model_copy(update={"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    key = Key(b"e" * 32)
    if claim == "unsigned":
        path.write_text(unsigned_text(forged))
    elif claim == "another key":
        path.write_text(forged.text(key))
    else:
        path.write_text(with_sum(forged.text(key).replace(key.id, own)))
    assert manifest_at(path) == (forged if claim != "unsigned" else forged.model_copy(update={"format": 2}))


def test_unsigned_backup_is_restored_when_that_is_asked_for_and_drills_say_so(
    postgres: str, database: str, folder: Path
) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    manifest = manifest_at(Path(f"{dump}.json"))
    assert manifest is not None
    Path(f"{dump}.json").write_text(unsigned_text(manifest))
    assert odoo_restore_drill(database)["signature"] == "unsigned"
    assert odoo_db_restore(f"{database}_new", dump.name, unsigned=True)["signature"] == "unsigned"
    assert content(postgres.format(database=f"{database}_new")) == content(postgres.format(database=database))


@pytest.mark.parametrize("weak", ["folder", "dump", "filestore"])
def test_signed_backup_that_others_can_write_to_is_refused(
    database: str, filestore: Path, tmp_path: Path, weak: str
) -> None:
    assert filestore.is_dir()
    folder = tmp_path / "backups"  # settings refuse such a one in OPS_HOME
    dump = Path(odoo_db_backup(database, backup_dir=str(folder))["file"])
    path = {"folder": folder, "dump": dump, "filestore": Path(f"{dump}.filestore.tar.gz")}[weak]
    path.chmod(0o777)
    with pytest.raises(PreflightError, match=f"everybody may write to {path}: the files of {dump.name} could be"):
        odoo_db_restore(f"{database}_new", dump.name, backup_dir=str(folder))


def test_key_that_others_may_read_ends_a_backup_before_its_dump(database: str, folder: Path, tmp_path: Path) -> None:
    odoo_db_backup(database)
    own = tmp_path / "home" / "backup-keys" / "own"
    own.chmod(0o640)
    before = files(folder)
    with pytest.raises(PreflightError, match=f"chmod 600 {own}"):
        odoo_db_backup(database)
    assert files(folder) == before


@pytest.mark.gate
def test_unpacked_files_are_their_owners_alone_and_run_as_nobody_else(
    database: str, filestore: Path, tmp_path: Path
) -> None:
    (filestore / "ab/abcdef").chmod(0o6777)
    (filestore / "cd").chmod(0o3777)
    dump = Path(odoo_db_backup(database)["file"])
    odoo_db_restore(f"{database}_copy", dump.name, filestore_dir=str(tmp_path / "new"))
    assert {path.stat().st_mode & 0o7777 for path in [tmp_path / "new", *(tmp_path / "new").rglob("*")]} <= {
        0o600,
        0o700,
    }


@needs_root
def test_filestore_in_a_folder_of_odoos_user_is_unpacked_as_that_user(
    database: str, filestore: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = 65534
    dump = Path(odoo_db_backup(database)["file"])
    with tempfile.TemporaryDirectory() as theirs:  # where that user passes
        os.chown(theirs, nobody, nobody)
        monkeypatch.setenv("OPS_FILESTORE_ROOTS", theirs)
        new = Path(theirs) / "new"
        odoo_db_restore(f"{database}_copy", dump.name, filestore_dir=str(new))
        assert {path.lstat().st_uid for path in (new, *new.rglob("*"))} == {nobody}
        assert files(new) == files(filestore)


@needs_root
def test_filestore_stays_in_its_folder_when_that_is_swapped_for_a_link(
    database: str, filestore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    ours = tmp_path / "ours"
    ours.mkdir()
    with tempfile.TemporaryDirectory() as passable:
        theirs = Path(passable) / "theirs"
        theirs.mkdir()
        os.chown(passable, 65534, 65534)
        os.chown(theirs, 65534, 65534)
        monkeypatch.setenv("OPS_FILESTORE_ROOTS", passable)

        judge = unpacking.Unpacked.open

        def open_and_swap(files: unpacking.Unpacked, target: Path) -> dict[str, str]:
            env = judge(files, target)
            theirs.rename(f"{theirs}.moved")  # as the folder's owner can
            theirs.symlink_to(ours)
            return env

        monkeypatch.setattr(unpacking.Unpacked, "open", open_and_swap)
        odoo_db_restore(f"{database}_copy", dump.name, filestore_dir=str(theirs / "new"))
        assert list(ours.iterdir()) == []
        moved = Path(f"{theirs}.moved") / "new"
        assert files(moved) == files(filestore)
        assert {path.lstat().st_uid for path in (moved, *moved.rglob("*"))} == {65534}


@needs_root
def test_filestore_in_a_folder_that_was_swapped_before_is_refused(
    database: str, filestore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert filestore.is_dir()
    dump = Path(odoo_db_backup(database)["file"])
    ours = tmp_path.parent / f"{tmp_path.name}_ours"
    ours.mkdir()
    (tmp_path / "theirs").mkdir()
    judge = unpacking.Unpacked.open

    def swap_and_open(files: unpacking.Unpacked, target: Path) -> dict[str, str]:
        (tmp_path / "theirs").rmdir()
        (tmp_path / "theirs").symlink_to(ours)
        return judge(files, target)

    monkeypatch.setattr(unpacking.Unpacked, "open", swap_and_open)
    with pytest.raises(PreflightError, match="outside the folders in which runs may work"):
        odoo_db_restore(f"{database}_copy", dump.name, filestore_dir=str(tmp_path / "theirs" / "new"))
    assert list(ours.iterdir()) == []


def test_filestore_goes_into_no_folder_where_others_write(database: str, filestore: Path, tmp_path: Path) -> None:
    assert filestore.is_dir()
    dump = Path(odoo_db_backup(database)["file"])
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(PreflightError, match=f"everybody may write to {tmp_path}/shared"):
        odoo_db_restore(f"{database}_copy", dump.name, filestore_dir=str(tmp_path / "shared" / "new"))
    with pytest.raises(PreflightError, match="OPS_FILESTORE_ROOTS"):
        odoo_db_restore(f"{database}_copy", dump.name, filestore_dir="/srv/new")


def prune_all_but_newer(folder: Path, database: str) -> None:
    """What the nightly backups do to this one as soon as there are three newer ones."""
    now = datetime.now(UTC).replace(microsecond=0)
    for day in (41, 42, 43):
        make_backup(folder, database, now + timedelta(days=day))
    newest = Folder(folder).backups(database)[-1]
    assert len(newest.repository.prune(newest.name, retention_days=30)) == 1


@pytest.mark.parametrize("before", ["restore", *in_soak(["checksum", "filestore"])])
def test_backup_that_retention_deletes_meanwhile_is_restored_to_its_end(
    postgres: str, database: str, filestore: Path, *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    dump = Path(odoo_db_backup(database)["file"])

    def after_a_prune(name: str, *given: Any, **named: Any) -> object:
        if name == before:
            prune_all_but_newer(dump.parent, database)
        return step.step(name, *given, **named)

    for module in (restoring, load, unpacking):
        monkeypatch.setattr(module, "step", after_a_prune)
    new = f"{database}_new"
    odoo_db_restore(new, dump.name, filestore_dir=str(tmp_path / "new"))
    assert not dump.exists()
    assert content(postgres.format(database=new)) == content(postgres.format(database=database))
    assert files(tmp_path / "new") == files(filestore)


@pytest.mark.gate
def test_backup_that_is_deleted_before_it_is_opened_is_named(
    postgres: str, database: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    before = databases(postgres)
    monkeypatch.setattr(restoring, "_drop_leftovers", lambda: prune_all_but_newer(folder, database))
    with pytest.raises(StepFailedError, match=f"{dump.name} is missing: the backup was deleted meanwhile"):
        odoo_db_restore(f"{database}_new", dump.name)
    assert databases(postgres) == before


def test_database_instead_of_a_file_means_its_newest_good_backup(database: str, folder: Path) -> None:
    newest = Path(odoo_db_backup(database)["file"])
    make_backup(folder, database, datetime(2026, 3, 1, tzinfo=UTC))  # an older one
    make_backup(folder, f"{database}_other", datetime(2099, 3, 1, tzinfo=UTC))  # the newest of another database
    result = odoo_db_restore(f"{database}_copy", database)
    assert (result["backup"], result["database"]) == (newest.name, f"{database}_copy")
    with pytest.raises(PreflightError, match="holds no backup of odoo_unknown that can be restored"):
        odoo_db_restore(f"{database}_next", "odoo_unknown")
    with pytest.raises(PreflightError, match=rf"Hint: there are backups of {database}_other"):
        odoo_db_restore(f"{database}_next", f"{database}_othr")
    with pytest.raises(PreflightError, match=r"odoo_prod.dump is not the name of a backup. Hint: `ops backups`"):
        odoo_db_restore(f"{database}_next", "odoo_prod.dump")


def test_globals_hold_the_roles(postgres: str, database: str, folder: Path) -> None:
    role = f"clerk_of_{database}"
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'hidden-word'")
    made = odoo_db_backup(database)
    text = (folder / made["other_files"][0]).read_text()
    assert f"CREATE ROLE {role}" in text
    assert "PASSWORD 'SCRAM-SHA-256$" in text  # the verifier: as a superuser we may read it
    assert "hidden-word" not in text


def test_database_that_is_there_is_never_touched(postgres: str, database: str, folder: Path) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    with psycopg.connect(postgres.format(database=database)) as db:
        db.execute("INSERT INTO line (name) VALUES ('after the backup')")
    before = content(postgres.format(database=database))
    with pytest.raises(PreflightError, match=f"there is a database {database} already, and it is not touched"):
        odoo_db_restore(database, dump.name)
    assert content(postgres.format(database=database)) == before


def test_database_that_is_made_meanwhile_is_not_touched(
    postgres: str, database: str, filestore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert filestore.is_dir()
    dump = Path(odoo_db_backup(database)["file"])
    before = databases(postgres)
    new = f"{database}_new"
    psql = f'psql -q "{postgres.format(database="postgres")}" -c \'CREATE DATABASE "{new}"\'\n'
    monkeypatch.setattr(load, "LOAD", LOAD + psql)
    with pytest.raises(StepFailedError, match=f"cannot be named {new}: database .* already exists"):
        odoo_db_restore(new, dump.name, filestore_dir=str(tmp_path / "new"))
    assert databases(postgres) == before | {new}
    assert [path for path in tmp_path.iterdir() if "new" in path.name] == []
    with psycopg.connect(postgres.format(database=new)) as db:
        assert db.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_backup_that_differs_gets_no_name(postgres: str, database: str, folder: Path) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    before = databases(postgres)
    manifest = Folder(folder).backups(database)[0].manifest
    assert manifest is not None
    assert manifest.contents is not None
    wrong = {**manifest.contents.tables, "public.lost": manifest.contents.tables["public.line"]}
    rewrite(dump, contents=manifest.contents.model_copy(update={"tables": wrong}))
    with pytest.raises(StepFailedError, match=r"not what was dumped: table public\.lost is missing"):
        odoo_db_restore(f"{database}_new", dump.name)
    assert databases(postgres) == before


@pytest.mark.gate
def test_missing_filestore_is_a_preflight_error(
    database: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = odoo_db_backup(database)
    with pytest.raises(PreflightError, match="was made without a filestore"):
        odoo_db_restore(f"{database}_new", Path(made["file"]).name, filestore_dir=str(tmp_path / "new"))
    monkeypatch.setenv("OPS_FILESTORE_DIR", str(tmp_path))
    with pytest.raises(PreflightError, match="there is no filestore"):
        odoo_db_backup(database)


@pytest.mark.gate
def test_too_little_room_for_the_filestore_is_refused(
    postgres: str, database: str, filestore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert filestore.is_dir()
    made = odoo_db_backup(database)
    monkeypatch.setattr(folders, "MARGIN_BYTES", 10**18)
    before = databases(postgres)
    with pytest.raises(PreflightError, match=f"{tmp_path} has .* the unpacked filestore may need 0 MB and 1,000,000"):
        odoo_db_restore(f"{database}_new", Path(made["file"]).name, filestore_dir=str(tmp_path / "new"))
    assert databases(postgres) == before


def test_owners_and_privileges_come_back(postgres: str, database: str) -> None:
    role = f"owner_of_{database}"
    with psycopg.connect(postgres.format(database=database)) as db:
        db.execute(f'CREATE ROLE "{role}"; ALTER TABLE line OWNER TO "{role}"; GRANT SELECT ON empty_one TO "{role}"')
    made = odoo_db_backup(database)
    odoo_db_restore(f"{database}_new", Path(made["file"]).name)
    with psycopg.connect(postgres.format(database=f"{database}_new")) as db:
        assert db.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'line'").fetchone() == (role,)
        assert db.execute(f"SELECT has_table_privilege('{role}', 'empty_one', 'SELECT')").fetchone() == (True,)


@pytest.mark.gate
def test_backup_with_another_encoding_and_order_comes_back_as_it_was(postgres: str) -> None:
    name = "latin_shop"
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    with psycopg.connect(postgres.format(database=name)) as db:
        db.execute("CREATE TABLE word AS SELECT 'Größe ' || g AS text FROM generate_series(1, 100) g")
    made = odoo_db_backup(name)
    odoo_db_restore(f"{name}_new", Path(made["file"]).name)
    with psycopg.connect(postgres.format(database=f"{name}_new")) as db:
        query = "SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = current_database()"
        assert db.execute(query).fetchone() == ("LATIN1", "C")
