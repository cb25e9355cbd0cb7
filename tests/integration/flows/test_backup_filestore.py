"""A filestore with links: in the backup whole, restored as files of the copy alone, and never through a link."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from opsdb.errors import PreflightError, StepFailedError
from tests.support.backups import manifest_at, rewrite
from tests.support.folders import files, names

CONTENTS = {"plain": b"plain", "file": b"behind a link", "folder": b"behind a link to its folder"}


def name_of(content: bytes) -> str:
    sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    return f"{sha1[:2]}/{sha1}"


@pytest.fixture
def store(postgres: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three attachments that rows name, two of them moved to another disk with links in their places."""
    folder, disk = tmp_path / "filestore" / database, tmp_path / "disk"
    disk.mkdir()
    for content in CONTENTS.values():
        (folder / name_of(content)).parent.mkdir(parents=True, exist_ok=True)
        (folder / name_of(content)).write_bytes(content)
    for moved in (folder / name_of(CONTENTS["file"]), (folder / name_of(CONTENTS["folder"])).parent):
        shutil.move(moved, disk / moved.name)
        moved.symlink_to(disk / moved.name)
    with psycopg.connect(postgres.format(database=database), autocommit=True) as db:
        db.execute("CREATE TABLE ir_attachment (id serial, store_fname varchar)")
        for content in CONTENTS.values():
            db.execute("INSERT INTO ir_attachment (store_fname) VALUES (%s)", (name_of(content),))
    monkeypatch.setenv("OPS_FILESTORE_DIR", str(folder.parent))
    return folder


@pytest.mark.promise(11)
def test_attachments_behind_links_are_restored_and_the_copy_shares_none(
    database: str, store: Path, tmp_path: Path
) -> None:
    expected = {name_of(content): content for content in CONTENTS.values()}
    dump = Path(odoo_db_backup(database)["file"])
    manifest = manifest_at(Path(f"{dump}.json"))
    assert manifest is not None
    assert manifest.filestore is not None
    assert manifest.attachments is not None
    assert manifest.filestore.note == "3 files, 2 links followed"
    assert (manifest.attachments.named, manifest.attachments.lost) == (3, [])
    new = tmp_path / "new"
    result = odoo_db_restore(f"{database}_new", dump.name, filestore_dir=str(new))
    assert result["not_restored"] == []
    assert files(new) == expected
    for path in new.rglob("*"):
        assert not path.is_symlink()
        if path.is_file():
            path.write_bytes(b"changed in the copy")
            path.unlink()
    assert {name: (store / name).read_bytes() for name in expected} == expected


def test_link_that_leads_out_of_the_roots_ends_a_backup_before_its_dump(
    database: str, store: Path, folder: Path
) -> None:
    (store / "x").symlink_to("/etc/passwd")
    with pytest.raises(PreflightError, match=f"{store}/x is a link to /etc/passwd, .* OPS_FILESTORE_ROOTS"):
        odoo_db_backup(database)
    assert not folder.exists()


@pytest.mark.gate
def test_link_that_is_put_there_after_the_preflight_fails_the_backup(
    database: str, store: Path, folder: Path, stand_in: Callable[[str], Path]
) -> None:
    stand_in(f'ln -s /etc/passwd {store}/x\n"$REAL" "$@"')
    with pytest.raises(StepFailedError, match=f"{store}/x is a link to /etc/passwd"):
        odoo_db_backup(database)
    assert names(folder) == set()


@pytest.mark.gate
@pytest.mark.usefixtures("folder")
def test_links_in_the_archive_of_an_older_room_are_left_out_where_they_lead_out(
    database: str, store: Path, tmp_path: Path, told: list[str]
) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    old = tmp_path / "old"
    (old / "ab").mkdir(parents=True)
    (old / "ab" / "file").write_text("file")
    (old / "inside").symlink_to("ab/file")
    (old / "out").symlink_to(store)
    (old / "ab" / "a\nb").symlink_to(store / name_of(CONTENTS["plain"]))
    archive = Path(f"{dump}.filestore.tar.gz")
    subprocess.run(["tar", "-czf", archive, "-C", old, "."], check=True, timeout=30)
    manifest = manifest_at(Path(f"{dump}.json"))
    assert manifest is not None
    assert manifest.filestore is not None
    sums = {"size_bytes": archive.stat().st_size, "sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}
    rewrite(dump, filestore=manifest.filestore.model_copy(update=sums), attachments=None)
    new = tmp_path / "new"
    result = odoo_db_restore(f"{database}_new", dump.name, filestore_dir=str(new))
    assert sorted(result["not_restored"]) == [r"$'ab/a\nb' of the filestore", "out of the filestore"]
    assert [one for one in told if one.startswith("not restored: ") and "out of the filestore" in one]
    assert files(new) == {"ab/file": b"file", "inside": b"file"}
