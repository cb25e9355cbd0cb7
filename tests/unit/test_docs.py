"""What the documents say is there: commands, options, settings, make targets, files and links.

`make docs` runs this file to write docs/settings.md.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from opsdb.settings import RENAMED, Settings
from tests.support.documents import FENCE, ROOT, check_ops, inline_codes, shell_lines

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SETTINGS_PAGE = ROOT / "docs" / "settings.md"

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
REPOSITORY_PATH = re.compile(r"(?:\.ci|blocks|cli|deployments|docs|exporter|flows|opsdb|tests)/[\w./-]*")
NOT_SETTINGS = {
    *("OPS_RUN_ID", "OPS_STEP", "OPS_SETTLED"),  # the room sets them itself, for its processes
    "OPS_TEST_ODOO",  # for tests alone
}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def settings_page() -> str:
    """docs/settings.md, as the settings themselves describe it."""
    rows = [
        f"| `OPS_{name.upper()}` | {_default(field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            "Environment variables, and in small letters without `OPS_` the keys of "
            "[the settings file](settings-file.md). Durations are in seconds, sizes in bytes. An empty value counts as "
            "none; a wrong one is refused by name. `ops settings` shows what is set here, and where that comes from.",
            "",
            "Written from `opsdb/settings.py` by `make docs`.",
            "",
            "| variable | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _default(value: object) -> str:
    if value is None or value is PydanticUndefined or value == ():
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Path) and value.is_relative_to(ROOT):
        return f"`{value.relative_to(ROOT)}` of the checkout"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def commands(line: str, program: str) -> Iterator[list[str]]:
    """The arguments of every call of a program in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&()<>")
    lexer.whitespace_split = True
    call: list[str] = []
    for word in [*lexer, ";"]:
        if not set(word) <= set(";|&()<>"):
            call.append(word)
            continue
        while call and re.match(r"\w+=", call[0]):
            call.pop(0)
        if call and call[0].rpartition("/")[2] == program:
            yield call[1:]
        call = []


@every_page
def test_commands_in_shell_blocks_exist_with_their_options(page: Path) -> None:
    for line in shell_lines(page.read_text()):
        for arguments in commands(line, "ops"):
            check_ops(arguments, complete=True)


@every_page
def test_commands_in_prose_exist_with_their_options(page: Path) -> None:
    for code in inline_codes(page.read_text()):
        if code.startswith("ops "):
            check_ops(shlex.split(code)[1:], complete=False)


@pytest.mark.parametrize(
    "wrong",
    [
        *("frobnicate", "up --forever", "run", "db frobnicate", "runs --lane"),
        "run odoo_db_restore -p odoo_db=odoo_new -p new_db=odoo_test",
    ],
)
def test_check_of_commands_finds_what_is_wrong(wrong: str) -> None:
    with pytest.raises(Exception, match=r"ops |[Nn]o such"):
        check_ops(shlex.split(wrong), complete=True)


@every_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    called = [words for line in shell_lines(text) for words in commands(line, "make")]
    called += [shlex.split(code)[1:] for code in inline_codes(text) if code.startswith("make ")]
    assert {word for words in called for word in words if "=" not in word} <= targets


@every_page
def test_local_links_resolve(page: Path) -> None:
    for groups in LINK.findall(FENCE.sub("", page.read_text())):
        link = "".join(groups)
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, link


@every_page
def test_addresses_are_those_of_the_room(page: Path) -> None:
    hosts = re.findall(r"https?://([^\s/:`\"')>]+)", page.read_text())
    assert set(hosts) <= {"127.0.0.1", "localhost", "ops.example.org"}  # the last is for examples, and nobody's


@every_page
def test_settings_that_are_named_exist(page: Path) -> None:
    known = {f"OPS_{name.upper()}" for name in (*Settings.model_fields, *RENAMED)} | NOT_SETTINGS
    assert set(re.findall(r"\bOPS_[A-Z_]+\b", page.read_text())) <= known


@every_page
def test_settings_in_toml_are_settings(page: Path) -> None:
    for language, block in FENCE.findall(page.read_text()):
        if language == "toml":
            assert set(tomllib.loads(block)) <= set(Settings.model_fields)


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    named = [code for code in inline_codes(page.read_text()) if REPOSITORY_PATH.fullmatch(code)]
    assert [path for path in named if not (ROOT / path).exists()] == []


def folders() -> set[str]:
    """The packages, and the rooms in each."""
    packages = [file.parent for file in ROOT.glob("*/__init__.py")]
    rooms = [room for package in packages for room in package.iterdir() if room.name != "__pycache__" and room.is_dir()]
    full = [one for one in [*packages, *rooms] if any(path.suffix != ".pyc" for path in one.rglob("*.*"))]
    return {f"{one.relative_to(ROOT)}/" for one in full}


def test_table_of_folders_has_each_room_once() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("| folder | what is in it |\n|---|---|\n")[2]
    listed = re.findall(r"\| `([^`]+)` \| \S", table.partition("\n\n")[0])
    assert sorted(listed) == sorted(folders())


def test_page_of_settings_is_current() -> None:
    assert SETTINGS_PAGE.read_text() == settings_page(), "run `make docs`"


if __name__ == "__main__":
    SETTINGS_PAGE.write_text(settings_page())
