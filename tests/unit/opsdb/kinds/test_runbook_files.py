"""Which files outside the repository hold runbooks, read and never executed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsdb.errors import UsageError
from opsdb.kinds.kind_names import read_kind_names
from opsdb.kinds.kinds import entrypoint_of, is_of_file, known_kinds, source_of
from opsdb.kinds.runbook_files import RunbookFile, runbook_files
from opsdb.setting_types import is_import_name
from opsdb.settings import Settings, load_settings

EXPLODES = "raise SystemExit('executed')\n"
RUNBOOK = "from flows.engine.runbook import runbook\n\n@runbook(deadline_seconds=9)\ndef {name}(): ...\n"


def write(folder: Path, **files: str) -> Settings:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return Settings(runbooks=folder)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package on the path of modules."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    folder = tmp_path / "site" / "team_of_tests"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(EXPLODES)
    yield folder
    for name in [name for name in sys.modules if name.startswith("team_of_tests")]:
        del sys.modules[name]


def found(settings: Settings) -> dict[str, RunbookFile]:
    return {file.path.name: file for file in runbook_files(settings)}


def test_file_whose_name_has_a_dot_is_to_be_renamed(tmp_path: Path) -> None:
    settings = write(tmp_path, **{"a.b": RUNBOOK.format(name="one")})
    assert "rename the file: its name must be a Python name" in (found(settings)["a.b.py"].error or "")


def test_runbooks_of_a_folder_are_known_without_executing_them(tmp_path: Path) -> None:
    other = RUNBOOK.format(name="b2").replace("import runbook\n", "import runbook as book\n").replace("@runb", "@b")
    settings = write(
        tmp_path, a=EXPLODES + RUNBOOK.format(name="a1"), b=other, test_a="", conftest="", _shared="", notes="x = 1\n"
    )
    (tmp_path / "readme.txt").touch()
    files = found(settings)
    assert {name: file.kinds for name, file in files.items()} == {"a.py": ("a1",), "b.py": ("b2",), "notes.py": ()}
    assert files["a.py"].module == "flows.own.files.a"
    assert "notes.py: defines no runbook: expected a function with @runbook(...)" in (files["notes.py"].error or "")
    assert {"a1", "b2", "disk_space"} <= set(known_kinds(settings))
    entrypoint = entrypoint_of("a1", settings)
    assert entrypoint == "flows.own_runbooks.a1"
    assert is_of_file(entrypoint)
    assert not is_of_file("flows.own_runbooks._catalogue")
    assert source_of(entrypoint, settings) == tmp_path / "a.py"
    assert source_of("flows.own_runbooks.gone", settings) is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x = 1\ndef broken(:\n", ":2: invalid syntax"),
        (RUNBOOK.format(name="Shouts"), ":4: Shouts: a runbook's name has lower-case letters"),
        (RUNBOOK.format(name="later").replace("def ", "async def "), ":4: later is async"),
        ("\0", ":"),
    ],
)
def test_file_that_cannot_be_one_is_named_with_its_line_and_leaves_the_others(
    tmp_path: Path, text: str, error: str
) -> None:
    settings = write(tmp_path, bad=text, good=RUNBOOK.format(name="good"))
    (tmp_path / "folder.py").mkdir()
    files = found(settings)
    assert f"{tmp_path}/bad.py{error}" in (files["bad.py"].error or "")
    assert files["good.py"].kinds == ("good",)
    assert files["folder.py"].error == f"{tmp_path}/folder.py: is not a regular file"
    assert not read_kind_names(settings).complete


def test_folder_that_is_not_there_is_an_error_that_keeps_what_is_deployed(tmp_path: Path) -> None:
    (one,) = runbook_files(Settings(runbooks=tmp_path / "unmounted"))
    assert one.error == f"OPS_RUNBOOKS={tmp_path}/unmounted: No such file or directory"


def test_package_is_read_by_its_name_without_importing_it(package: Path) -> None:
    (package / "restart.py").write_text(RUNBOOK.format(name="restart"))
    (package / "words.py").write_text("x = 1\n")
    inner = package / "deep"
    inner.mkdir()
    (inner / "__init__.py").write_text(RUNBOOK.format(name="deep_one"))
    (one,) = runbook_files(Settings(runbooks="team_of_tests"))
    assert (one.module, one.kinds) == ("team_of_tests.restart", ("restart",))
    (two,) = runbook_files(Settings(runbooks="team_of_tests.deep"))
    assert (two.module, two.kinds) == ("team_of_tests.deep", ("deep_one",))
    assert "team_of_tests" not in sys.modules


def test_package_that_is_not_there_or_has_none_is_named(package: Path) -> None:
    (one,) = runbook_files(Settings(runbooks="no_such_package"))
    assert "the package no_such_package is not installed here" in (one.error or "")
    (two,) = runbook_files(Settings(runbooks="team_of_tests"))
    assert "the package team_of_tests defines no runbook" in (two.error or "")


def test_packages_announce_themselves_and_count_once(package: Path) -> None:
    (package / "restart.py").write_text(RUNBOOK.format(name="restart"))
    about = package.parent / "team_of_tests-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: team-of-tests\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[ops.runbooks]\none = team_of_tests\ntwo = team_of_tests\n")
    for settings in (Settings(), Settings(runbooks="team_of_tests")):
        assert [file.kinds for file in runbook_files(settings)] == [("restart",)]
    assert "restart" in known_kinds(Settings())


def test_file_that_changed_is_read_again(tmp_path: Path) -> None:
    settings = write(tmp_path, a=RUNBOOK.format(name="first"))
    assert found(settings)["a.py"].kinds == ("first",)
    write(tmp_path, a=RUNBOOK.format(name="the_other"))
    assert found(settings)["a.py"].kinds == ("the_other",)


def test_setting_is_a_folder_with_a_slash_or_the_name_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / ".ops"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("OPS_HOME", str(home))
    for text, place in {"./rb": tmp_path / "rb", "/srv/rb": Path("/srv/rb"), "team.rb": "team.rb"}.items():
        monkeypatch.setenv("OPS_RUNBOOKS", text)
        assert load_settings().runbooks == place
    monkeypatch.setenv("OPS_RUNBOOKS", "run-books")
    with pytest.raises(UsageError, match=r"OPS_RUNBOOKS.*a folder has a slash, as in \./run-books"):
        load_settings()
    monkeypatch.delenv("OPS_RUNBOOKS")
    for text, place in {"./rb": home / "rb", "team.rb": "team.rb"}.items():
        (home / "ops.toml").write_text(f'runbooks = "{text}"\n')
        assert load_settings().runbooks == place
    assert not is_import_name("a-b")
