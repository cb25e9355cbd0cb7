"""Values of templates: nothing that could end a directive gets in, and errors name what would be right."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.hosting.registry import TABLES, TEMPLATES
from deployments.hosting.template import Template, render, write_rendered
from deployments.hosting.values import Values
from deployments.hosting.values_file import build_values, read_hosting_file
from opsdb.errors import UsageError
from opsdb.settings import Settings
from tests.support.hosting import GOOD, good_values

HOSTILE = ["\n", "\r", '"', "'", ";", "$", "`", "{", "}", "#", " ", "\\", "\0", "\t", "|", "&", "%n", "\u2028"]
WORDS = ["", "a", "1", "/", "https://ops.example.org"]

every_template = pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)


def accepted(template: Template, field: str, value: str) -> Values | None:
    try:
        return template.values.model_validate(good_values(template) | {field: value})
    except ValidationError:
        return None


def texts(value: Any) -> Iterator[str]:
    """All that a value consists of."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from texts(one)
    else:
        yield str(value)


@every_template
def test_no_value_takes_what_could_end_the_place_that_it_is_put_in(template: Template) -> None:
    for field, hostile in itertools.product(template.values.model_fields, HOSTILE):
        given = good_values(template).get(field)
        for word in [*WORDS, given] if isinstance(given, str) else WORDS:
            for text in (f"{word}{hostile}", f"{word}{hostile}x", f"{hostile}{word}x"):
                taken = accepted(template, field, text)
                for value in texts(taken.model_dump()[field]) if taken else ():
                    assert hostile not in value, (field, text)


@every_template
def test_each_value_is_used_and_described(template: Template) -> None:
    for name, field in template.values.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


@every_template
def test_no_template_renders_an_unknown_value_or_a_leftover(template: Template) -> None:
    for values in GOOD[template.name]:
        for text in render(template, template.values.model_validate(values)).values():
            assert not re.search(r"\{\{(?! *[a-z]+\.[a-zA-Z_.]+ *\}\})|\{%|\bNone\b", text)
            assert text.endswith("\n")


@every_template
def test_values_that_are_required_are_asked_for_by_name(template: Template) -> None:
    required = [name for name, field in template.values.model_fields.items() if field.is_required()]
    if required:
        with pytest.raises(UsageError) as refused:
            build_values(template.values, template.name, file=None, assignments=[], settings=Settings())
        for name in required:
            assert f"{name} is missing" in str(refused.value)


def built(*assignments: str, file: str = "", folder: Path | None = None, settings: Settings | None = None) -> Any:
    """The values of nginx's template."""
    settings = settings or Settings()
    path = folder / "h.toml" if folder else None
    if path:
        path.write_text(file)
    found = read_hosting_file(path, settings, TABLES) if path else None
    return build_values(
        TEMPLATES["nginx"].values, "nginx", file=found, assignments=list(assignments), settings=settings
    )


def test_command_line_counts_more_than_the_file_and_that_more_than_the_room(tmp_path: Path) -> None:
    room = Settings(server_url="https://room.example.org", prefect_port=4300)
    assert built(settings=room).host == "room.example.org"
    text = '[nginx]\nserver_url = "https://file.example.org"\n'
    assert built(file=text, folder=tmp_path, settings=room).host == "file.example.org"
    found = built("server_url=https://typed.example.org", file=text, folder=tmp_path, settings=room)
    assert (found.host, found.prefect_port) == ("typed.example.org", 4300)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[nginx]\nserver_ur = 'x'\n",
            r"h\.toml, \[nginx\]: server_ur: unknown value. Hint: did you mean server_url\?",
        ),
        ("[ngnix]\n", r"unknown table 'ngnix'. Hint: did you mean nginx\?"),
        ("nginx = 3\n", r"line 1: nginx: expected a table, as in \[nginx\]"),
        ("[nginx]\nserver_url = 'http://a'\n", r"\[nginx\]: server_url: expected https://.*found 'http://a'"),
        ("[nginx]\nprefect_port = 0\n", r"\[nginx\]: prefect_port: .*expected 1 or more"),
        ("[nginx\n", r"h\.toml is not valid TOML"),
    ],
)
def test_file_is_refused_with_its_place_and_what_is_right(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        built(file=text, folder=tmp_path)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("server_url", "expected key=value"),
        ("=x", "expected key=value"),
        ("alow_from=x", "did you mean allow_from"),
        ("allow_from=10.0.0.1/8", "without host bits"),
        ("upstream=http://a/b", "without a path"),
        ("certificate=/etc/../x", "without `..`"),
    ],
)
def test_assignment_is_refused_with_what_is_right(assignment: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        built("server_url=https://ops.example.org", assignment)


def test_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--settings: there is no file"):
        read_hosting_file(tmp_path / "none.toml", Settings(), TABLES)


def test_rendered_file_is_written_again_but_nobody_elses(tmp_path: Path) -> None:
    template = TEMPLATES["nginx"]
    files = render(template, template.values.model_validate(GOOD["nginx"][0]))
    assert write_rendered(template, files, tmp_path) == write_rendered(template, files, tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o644
    path.write_text("server {}\n")
    with pytest.raises(UsageError, match="was not rendered by"):
        write_rendered(template, files, tmp_path)
    assert path.read_text() == "server {}\n"
