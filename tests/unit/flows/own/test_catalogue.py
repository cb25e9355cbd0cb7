"""The team's own runbooks: loaded one by one, and what one does wrong is said and stops no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.engine.dry_run import load_runbook
from flows.own import loading
from flows.own.catalogue import catalogue, find
from opsdb.errors import UsageError
from opsdb.kinds.runbook_files import RunbookFileError
from opsdb.settings import Settings

HEAD = "from flows.engine.runbook import runbook\n"
RUNBOOK = HEAD + "@runbook(deadline_seconds=9)\ndef {name}(): return helper()\ndef helper(): return '{name}'\n"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.startswith(("flows.own.files.", "team_of_"))]:
        del sys.modules[name]
    sys.modules.pop("flows.own_runbooks", None)


def write(folder: Path, **files: str) -> Settings:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return Settings(runbooks=folder, database_url="postgresql://ops:correct%20horse@127.0.0.1/ops")


def errors(settings: Settings) -> dict[str, str | None]:
    return {one.path.name: one.error for one in catalogue(settings)}


def test_files_with_the_same_helpers_and_with_names_of_modules_stand_beside_each_other(tmp_path: Path) -> None:
    settings = write(tmp_path, json=RUNBOOK.format(name="one"), cli=RUNBOOK.format(name="two"), _words="WORD = 3\n")
    write(tmp_path, three=f"from ._words import WORD\n{RUNBOOK.format(name='three')}")
    assert [(one.kind, one.error) for one in catalogue(settings)] == [("two", None), ("one", None), ("three", None)]
    for kind in ("one", "two"):
        flow = find(kind, settings)
        assert flow is not None
        assert flow.fn.__wrapped__() == kind  # type: ignore[attr-defined]
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import no_such_module_here\n", ":1: ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("\n\n1 / 0\n", ":3: ZeroDivisionError: division by zero"),
        ("import asyncio\nraise asyncio.CancelledError\n", ":2: CancelledError"),
        ("import pytest\npytest.skip('not here', allow_module_level=True)\n", ":2: Skipped: not here"),  # of the file
        ("raise KeyboardInterrupt\n", ":1: KeyboardInterrupt"),
        ("raise GeneratorExit\n", ":1: GeneratorExit"),
        ("import sys\nsys.exit(3)\n", ":2: ends the process when it is imported (sys.exit)"),
        (
            "\nraise ValueError('postgresql://me:hidden@db/x is\\nwrong')\n",
            ":2: ValueError: postgresql://***@db/x is wrong",
        ),
        ("raise ValueError('amqp://me:hid/den@x/y is wrong')\n", ":1: ValueError: amqp://***@x/y is wrong"),
        ("raise ValueError('https://x/?Token=hidden&a=1')\n", ":1: ValueError: https://x/?Token=***&a=1"),
        ("\nraise ValueError('pass correct%20horse here')\n", ":2: ValueError: pass *** here"),
    ],
)
def test_file_that_cannot_be_imported_is_named_with_its_line_and_leaves_the_others(
    tmp_path: Path, text: str, error: str
) -> None:
    settings = write(tmp_path, bad=HEAD + text + RUNBOOK.format(name="bad"), good=RUNBOOK.format(name="good"))
    number, colon, said = error[1:].partition(":")
    assert errors(settings) == {"bad.py": f"{tmp_path}/bad.py:{int(number) + 1}{colon}{said}", "good.py": None}
    with pytest.raises(RunbookFileError, match=r"bad\.py:"):
        find("bad", settings)
    assert find("good", settings) is not None


def test_error_in_what_a_file_imports_is_named_where_it_is(tmp_path: Path) -> None:
    settings = write(tmp_path, _words="\nWORD = words\n", a="from ._words import WORD\n" + RUNBOOK.format(name="one"))
    assert errors(settings) == {"a.py": f"{tmp_path}/_words.py:2: NameError: name 'words' is not defined"}


def test_package_is_loaded_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "team_of_catalogues"
    write(package, __init__="", words="WORD = 'x'\n", restart="from team_of_catalogues.words import WORD\n")
    with (package / "restart.py").open("a") as file:
        file.write(RUNBOOK.format(name="restart_it"))
    write(package, broken="1 / 0\n" + RUNBOOK.format(name="broken_one"))
    settings = Settings(runbooks="team_of_catalogues")
    found = {one.kind: one for one in catalogue(settings)}
    assert found["broken_one"].error == f"{package}/broken.py:1: ZeroDivisionError: division by zero"
    flow = find("restart_it", settings)
    assert flow is not None
    assert flow.fn.__wrapped__.__module__ == "team_of_catalogues.restart"  # type: ignore[attr-defined]


def test_secret_of_the_room_is_in_no_error(tmp_path: Path) -> None:
    text = "raise ValueError('the login postgresql://ops:correct%20horse@127.0.0.1/ops is refused')\n"
    settings = write(tmp_path, bad=text + RUNBOOK.format(name="bad"))
    assert "horse" not in (errors(settings)["bad.py"] or "horse")


@pytest.mark.parametrize("swallowed", ["except Exception", "except"])
def test_file_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swallowed: str) -> None:
    monkeypatch.setattr(loading.load, "__kwdefaults__", {"seconds": 0.05})
    text = f"import time\nwhile True:\n    try:\n        time.sleep(0.5)\n    {swallowed}:\n        pass\n"
    settings = write(tmp_path, hangs=text + RUNBOOK.format(name="hangs"), good=RUNBOOK.format(name="good"))
    found = errors(settings)
    assert "takes longer than 0.05 s to import" in (found["hangs.py"] or "")
    assert found["good.py"] is None


@pytest.mark.parametrize("swallowed", ["ValueError", "BaseException"])
def test_ctrl_c_is_of_the_command_and_not_of_the_file(tmp_path: Path, swallowed: str) -> None:
    text = f"import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept {swallowed}:\n    pass\n"
    settings = write(tmp_path, a=text + RUNBOOK.format(name="one"))
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        catalogue(settings)
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_ends_a_file_that_swallows_it_without_end(tmp_path: Path) -> None:
    loop = "while True:\n    try:\n        time.sleep(0.5)\n    except:\n        pass\n"
    text = f"import signal, time\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept:\n    pass\n{loop}"
    settings = write(tmp_path, a=text + RUNBOOK.format(name="one"))
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        catalogue(settings)
    assert time.monotonic() - began < loading.IMPORT_SECONDS / 2


def test_time_of_the_engine_is_not_of_the_file() -> None:
    code = "import sys, flows.own.loading; print({'flows.engine.step', 'flows.engine.runbook'} <= {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_file_that_fails_is_imported_once_for_all_its_runbooks(tmp_path: Path) -> None:
    text = f"import pathlib\npathlib.Path({str(tmp_path / 'seen')!r}).open('a').write('x')\n1 / 0\n"
    settings = write(tmp_path, a=text + RUNBOOK.format(name="one") + "@runbook(deadline_seconds=9)\ndef two(): ...\n")
    for kind in ("one", "two"):
        with pytest.raises(RunbookFileError, match=r"a\.py:3: ZeroDivisionError"):
            find(kind, settings)
    assert (tmp_path / "seen").read_text() == "x"
    catalogue(settings)
    assert (tmp_path / "seen").read_text() == "xx"
    write(tmp_path, a=RUNBOOK.format(name="one"))
    os.utime(tmp_path / "a.py", (1, 1))
    assert find("one", settings) is not None


def test_helpers_of_two_folders_may_have_the_same_name(tmp_path: Path) -> None:
    for folder, said in (("one", "first"), ("two", "second")):
        text = f"from . import _h\nfrom ._h import WORD\nassert _h.WORD == WORD == {said!r}, _h.WORD\n"
        settings = write(tmp_path / folder, _h=f"WORD = {said!r}\n", **{said: text + RUNBOOK.format(name=said)})
        assert errors(settings) == {f"{said}.py": None}


def test_file_of_another_folder_is_another_module(tmp_path: Path) -> None:
    for folder, kind in (("one", "first"), ("two", "second")):
        (file,) = catalogue(write(tmp_path / folder, same=RUNBOOK.format(name=kind)))
        assert (file.kind, file.error) == (kind, None)


def test_function_that_is_no_runbook_in_the_end_is_named(tmp_path: Path) -> None:
    settings = write(tmp_path, a=RUNBOOK.format(name="replaced") + "replaced = 3\n")
    assert errors(settings) == {"a.py": f"{tmp_path}/a.py: replaced is not a runbook once the file is imported"}


def test_name_that_is_taken_is_refused_with_both_places(tmp_path: Path) -> None:
    settings = write(
        tmp_path / "own",
        a=RUNBOOK.format(name="same"),
        b=RUNBOOK.format(name="same"),
        c=RUNBOOK.format(name="odoo_db_backup"),
        d=RUNBOOK.format(name="disk_space"),
        e=RUNBOOK.format(name="fine"),
    )
    found = errors(settings)
    assert f"a.py: same: {tmp_path}/own/b.py has a runbook of that name" in (found["a.py"] or "")
    assert f"b.py: same: {tmp_path}/own/a.py has a runbook of that name" in (found["b.py"] or "")
    assert f"c.py: odoo_db_backup: {settings.prefect_yaml} has a runbook of that name" in (found["c.py"] or "")
    assert "disk_space.yaml has that name" in (found["d.py"] or "")
    assert found["e.py"] is None


def test_runbook_is_an_attribute_by_which_all_processes_load_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "own", a=RUNBOOK.format(name="mine"))
    monkeypatch.setenv("OPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPS_RUNBOOKS", str(tmp_path / "own"))
    loaded = load_runbook("flows.own_runbooks.mine")
    assert loaded.name == "mine"
    (tmp_path / "own" / "a.py").write_text("def (\n")  # is just being saved
    assert load_runbook("flows.own_runbooks.mine") is loaded
    (tmp_path / "own" / "a.py").unlink()
    with pytest.raises(UsageError, match="no installed package has the runbook 'other'"):
        load_runbook("flows.own_runbooks.other")
    (tmp_path / "own" / "b.py").write_text("def (\n")
    with pytest.raises(UsageError, match=r"one may not be readable(.|\n)*b\.py:1: invalid syntax"):
        load_runbook("flows.own_runbooks.other")
