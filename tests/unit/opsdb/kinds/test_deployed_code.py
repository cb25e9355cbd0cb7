from __future__ import annotations

from pathlib import Path

from opsdb.kinds.deployed_code import DeployedCode, note_code
from opsdb.settings import Settings


def test_code_has_changed_once_for_each_other_digest(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    code = DeployedCode(settings)
    assert not code.has_changed()
    note_code(settings, "a")
    assert [code.has_changed(), code.has_changed()] == [True, True]  # until it is loaded
    code.taken_up()
    assert not code.has_changed()
    note_code(settings, "a")
    assert not code.has_changed()
    note_code(settings, "b")
    assert code.has_changed()
    note_code(settings, "c")
    assert not DeployedCode(settings).has_changed()  # one that begins has loaded what there is


def test_file_that_others_may_write_or_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    note_code(settings, "a")
    code = DeployedCode(settings)
    file = tmp_path / "deployed-code"
    file.write_text("b")
    file.chmod(0o666)
    assert not code.has_changed()
    file.unlink()
    assert not code.has_changed()
    note_code(settings, "a")
    assert code.has_changed()  # what was there meanwhile is not known
