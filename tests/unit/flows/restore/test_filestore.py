"""What an archive may do that somebody else made: unpacked by the real bash, gzip and tar."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from flows.backup.folder import Folder
from flows.engine.active_run import ActiveRun, activated
from flows.restore.filestore import UNPACK, Unpacked, check_new_folder
from opsdb.errors import PreflightError
from opsdb.settings import Settings
from tests.support.backups import NOW, make_backup
from tests.support.other_user import NOBODY, as_nobody
from tests.support.programs import needs_root


def member(name: str, kind: bytes = tarfile.REGTYPE, *, mode: int = 0o644, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.mode, found.linkname, found.devmajor, found.devminor = kind, mode, link, 1, 3
    return found


def unpack(folder: Path, *members: tarfile.TarInfo, owner: str = "") -> tuple[subprocess.CompletedProcess[bytes], Path]:
    archive, into = folder / "a.tar.gz", folder / "new"
    with tarfile.open(archive, "w:gz") as tar:
        for one in (member("./", tarfile.DIRTYPE, mode=0o2777), member("./ab", tarfile.DIRTYPE, mode=0o3777), *members):
            one.size = 2 if one.isfile() else 0
            tar.addfile(one, io.BytesIO(b"x\n"))
    env = {
        "PATH": os.environ["PATH"],
        "ARCHIVE": str(archive),
        "PARENT": str(into.parent),
        "UNPACKED": f"./{into.name}",
        "OWNER": owner,
    }
    return subprocess.run(["bash", "-euo", "pipefail", "-c", UNPACK], check=False, env=env, capture_output=True), into


def test_folder_may_have_the_longest_name_there_is(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    settings = Settings(home=tmp_path / "home", filestore_dir=tmp_path)
    with activated(ActiveRun(uuid4(), 1, settings, lambda _: None, in_lane=False)):
        with closing(Unpacked(target)) as files:
            env = files.open(target)
            (Path(env["PARENT"]) / env["UNPACKED"]).mkdir()
            files.keep()
        assert [path.name for path in tmp_path.iterdir()] == [target.name]
        (tmp_path / "backups").mkdir()
        make_backup(tmp_path / "backups", "odoo", NOW)
        (backup,) = Folder(tmp_path / "backups").backups()
        assert backup.manifest is not None
        for longer in (tmp_path / ("ż" * 128), tmp_path / ("n" * 256) / "new"):
            with pytest.raises(PreflightError, match=r"has more than 255 bytes\. Hint: choose a shorter name"):
                check_new_folder(backup, backup.manifest, longer)


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6777, 0o1777, 0o666, 0o755])
def test_modes_of_an_archive_are_masked(tmp_path: Path, mode: int) -> None:
    done, into = unpack(tmp_path, member("./ab/file", mode=mode))
    assert done.returncode == 0, done.stderr
    about = (into / "ab/file").stat()
    assert stat.S_IMODE(about.st_mode) == mode & 0o700
    assert about.st_uid == os.getuid()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (into, into / "ab")} == {0o700}


@needs_root
@pytest.mark.parametrize("mode", [0, 0o400, 0o077])
def test_owner_may_enter_and_read_all_whatever_the_archive_says(mode: int) -> None:
    """Root made the archive, who reads what is closed to its owner."""
    closed = member("./closed", tarfile.DIRTYPE, mode=mode)
    with tempfile.TemporaryDirectory() as theirs:
        os.chown(theirs, NOBODY, NOBODY)
        done, into = unpack(Path(theirs), closed, member("./closed/file", mode=mode), owner=f"{NOBODY}:{NOBODY}")
        assert (done.returncode, done.stderr) == (0, b"")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in into.rglob("*")}
        assert {name: mode & 0o677 for name, mode in modes.items()} == {"ab": 0o600, "closed": 0o600, "file": 0o600}
        with as_nobody():
            assert (into / "closed" / "file").read_bytes() == b"x\n"


@pytest.mark.parametrize(
    "odd",
    [
        member("./ab/odd", tarfile.FIFOTYPE),
        member("./ab/odd", tarfile.SYMTYPE, link="/etc/passwd"),
        member("./ab/odd", tarfile.SYMTYPE, link="../../outside"),
        member("./odd", tarfile.SYMTYPE, link="."),
        member("./odd", tarfile.SYMTYPE, link=".."),
        pytest.param(
            member("./ab/odd", tarfile.CHRTYPE, mode=0o666),
            marks=needs_root,
        ),
    ],
    ids=lambda one: f"{one.type.decode()} {one.linkname}",
)
def test_devices_and_links_that_lead_out_are_left_out(tmp_path: Path, odd: tarfile.TarInfo) -> None:
    done, into = unpack(tmp_path, odd, member("./ab/file"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"left out: {odd.name.removeprefix('./')}\n"
    assert [path.name for path in into.rglob("*")] == ["ab", "file"]


@pytest.mark.parametrize("name", ["../outside", "/outside", "ab/../../outside", "./ab/../../outside"])
def test_names_that_lead_out_write_nothing_there(tmp_path: Path, name: str) -> None:
    name = str(tmp_path / "outside") if name == "/outside" else name
    unpack(tmp_path, member(name))
    assert not (tmp_path / "outside").exists()


def test_hard_link_to_a_foreign_file_and_a_file_through_a_link_are_not_made(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("precious")
    done, _ = unpack(tmp_path, member("./ab/hard", tarfile.LNKTYPE, link=str(tmp_path / "outside/file")))
    assert done.returncode != 0
    (tmp_path / "new").rename(tmp_path / "first")
    unpack(tmp_path, member("./out", tarfile.SYMTYPE, link=str(tmp_path / "outside")), member("./out/file"))
    assert (tmp_path / "outside/file").read_text() == "precious"
    assert (tmp_path / "outside/file").stat().st_nlink == 1


def test_links_and_names_of_a_filestore_are_kept(tmp_path: Path) -> None:
    link = member("./ab/link", tarfile.SYMTYPE, link="a\nb")
    done, into = unpack(tmp_path, member("./ab/a\nb"), link, member("./ab/hard", tarfile.LNKTYPE, link="./ab/a\nb"))
    assert done.returncode == 0, done.stderr
    assert (into / "ab/link").read_bytes() == (into / "ab/hard").read_bytes() == b"x\n"


def test_removing_files_follows_no_link_and_says_what_is_left(tmp_path: Path) -> None:
    precious = tmp_path / "outside" / "key"
    precious.parent.mkdir()
    precious.write_text("precious")
    settings = Settings(home=tmp_path / "home", filestore_dir=tmp_path)
    run = ActiveRun(uuid4(), 1, settings, lambda _: None, in_lane=False)
    with activated(run), closing(Unpacked(tmp_path / "shop")) as files:
        files.open(tmp_path / "shop")
        assert files.partial is not None
        (files.partial / "ab").mkdir(parents=True)
        (files.partial / "ab" / "key").touch()
        (files.partial / "cd").symlink_to(precious.parent)
        assert files.remove({"ab/key", "cd/key", "ef/key"}) == 1
        assert files.holds({"ab/key", "cd/key", "ef/key"}) == ["cd/key"]
    assert precious.read_text() == "precious"
