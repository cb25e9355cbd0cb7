"""Which files are templates, and which kinds they add."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.template.catalogue import catalogue, find
from flows.template.reading import ReadTemplate
from opsdb.kinds.kinds import entrypoint_of, known_kinds, with_files
from opsdb.kinds.template_files import OWN_FOLDER, TemplateError, template_files
from opsdb.settings import Settings

STEPS = '"steps": [{"name": "a", "command": "true", "timeout": 5}]'


def room(folder: Path, **files: str) -> Settings:
    templates = folder / "templates"
    templates.mkdir(exist_ok=True)
    for name, text in files.items():
        (templates / name.replace("_json", ".json").replace("_yaml", ".yaml")).write_text(text)
    registry = folder / "prefect.yaml"
    registry.write_text("deployments:\n  - {entrypoint: flows.one.one}\n")
    return Settings(templates=templates, prefect_yaml=registry)


def test_templates_are_files_by_their_ending_in_both_folders(tmp_path: Path) -> None:
    settings = room(tmp_path, a_json=f'{{"kind": "first", {STEPS}}}', b_yaml="kind: second", notes="kind: third")
    (tmp_path / "templates" / ".hidden.json").write_text("{}")
    found = {file.path.name: file.kind for file in template_files(settings)}
    assert found["a.json"] == "first"
    assert found["b.yaml"] == "second"
    assert found["disk_space.yaml"] == "disk_space"
    assert set(found) == {"a.json", "b.yaml", *(path.name for path in OWN_FOLDER.glob("*.yaml"))}


def test_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    found = template_files(Settings(templates=tmp_path / "none"))
    assert [file.path.parent for file in found] == [OWN_FOLDER] * len(found)


def test_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    settings = room(tmp_path, a_json='{"kind": "first"}')
    assert "first" in known_kinds(settings)
    room(tmp_path, a_json='{"kind": "other"}')
    os.utime(tmp_path / "templates" / "a.json", ns=(1, 1))
    assert {"first", "other"} & {*known_kinds(settings)} == {"other"}


def test_broken_file_keeps_no_other_kind_from_being_known(tmp_path: Path) -> None:
    settings = room(tmp_path, a_json="{", b_json='{"kind": "fine"}', c_json='{"kind": 7}')
    assert known_kinds(settings) == ["disk_space", "fine", "one"]
    assert with_files({"flows.one.one"}, settings) == {
        "flows.one.one",
        "flows.templates.disk_space",
        "flows.templates.fine",
    }


def test_kind_that_is_registered_has_no_template(tmp_path: Path) -> None:
    settings = room(tmp_path, a_json=f'{{"kind": "one", {STEPS}}}')
    assert "flows.templates.one" not in with_files({"flows.one.one"}, settings)
    (mine,) = [one for one in catalogue(settings) if one.path.name == "a.json"]
    assert mine.read is None
    assert "kind: one is a runbook of prefect.yaml already" in (mine.error or "")


@pytest.mark.parametrize("kind", ["a.disk_space", "A", "a-b", "_a"])
def test_kind_that_is_no_name_is_none(kind: str, tmp_path: Path) -> None:
    settings = room(tmp_path, a_json=f'{{"kind": "{kind}", {STEPS}}}')
    assert entrypoint_of("disk_space", settings) == "flows.templates.disk_space"
    assert kind not in known_kinds(settings)


def test_kind_that_is_just_being_saved_is_looked_for_among_what_cannot_be_read(tmp_path: Path) -> None:
    settings = room(tmp_path, a_json='{"kind": "sav')
    with pytest.raises(TemplateError, match=r"no template has the kind saving(.|\n)*a\.json: cannot be read as JSON"):
        find("saving", settings)


def test_template_of_which_no_runbook_can_be_made_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runbook_of(read: ReadTemplate) -> None:
        if read.template.kind == "odd":
            raise TypeError("Prefect cannot make it")

    monkeypatch.setattr("flows.template.catalogue.runbook_of", runbook_of)
    settings = room(tmp_path, a_json=f'{{"kind": "odd", {STEPS}}}', b_json=f'{{"kind": "fine", {STEPS}}}')
    found = {one.path.name: one for one in catalogue(settings)}
    assert (found["a.json"].error or "").endswith(
        "a.json: no runbook can be made of it: TypeError: Prefect cannot make it"
    )
    assert found["b.json"].read is not None


def test_kind_of_two_files_is_refused_in_both(tmp_path: Path) -> None:
    same = f'{{"kind": "same", {STEPS}}}'
    settings = room(tmp_path, a_json=same, b_json=same, c_json=f'{{"kind": "fine", {STEPS}}}')
    found = {one.path.name: one for one in catalogue(settings)}
    for name, other in (("a.json", "b.json"), ("b.json", "a.json")):
        assert f"kind: same is the kind of {tmp_path / 'templates' / other} too" in (found[name].error or "")
    assert found["c.json"].read is not None
    with pytest.raises(TemplateError, match="is the kind of"):
        find("same", settings)
    assert find("unknown", settings) is None
