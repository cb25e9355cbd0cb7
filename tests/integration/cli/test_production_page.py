"""The page that leads to a room in production: its steps in order, with what they need, and its files rendered."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsdb.settings import Settings
from tests.support.commands import run_ops
from tests.support.documents import FENCE, ROOT, shell_lines
from tests.support.programs import program

PAGE = (ROOT / "docs" / "howto" / "production.md").read_text()
PACKAGES = {
    "certbot": "certbot",
    "git": "git",
    "make": "make",
    "nginx": "nginx",
    "ufw": "ufw",
}
"""Programs that a fresh droplet lacks, by the package that the page installs."""
OF_THE_SYSTEM = {
    *("apt-get", "bash", "base64", "cd", "chown", "install", "ln", "printf", "tar", "useradd"),
    *("export", "runuser", "systemctl", "unset"),
}


def steps() -> Iterator[list[str]]:
    for line in shell_lines(PAGE):
        yield shlex.split(line)


def test_each_program_of_the_page_is_of_the_system_or_installed_by_then() -> None:
    known = set(OF_THE_SYSTEM) | {"ops"}  # which step 1 has on another computer
    for words in steps():
        assert words[0] in known, f"{words[0]}: no package that brings it was installed before"
        if words[:2] == ["apt-get", "install"]:
            known |= {name for name, package in PACKAGES.items() if package in words}


def test_files_that_are_installed_were_rendered_before(tmp_path: Path) -> None:
    """The page's own commands, with its own settings, make each file that it installs later."""
    for name, package in (("nginx", "nginx-light"), ("ufw", "ufw"), ("systemd-analyze", "systemd")):
        program(name, package=package)
    (settings,) = [text for language, text in FENCE.findall(PAGE) if language == "toml"]
    assert tomllib.loads(settings).keys() <= set(Settings.model_fields)
    home, rendered = tmp_path / "room", tmp_path / "rendered"
    home.mkdir(mode=0o700)
    (file,) = [text for language, text in FENCE.findall(PAGE) if language == "text"]
    (home / "hosting.toml").write_text(file)
    made: set[str] = set()
    for words in steps():
        if words[:2] == ["ops", "render"]:
            rendered.mkdir(exist_ok=True)
            words[words.index("--out") + 1] = str(rendered)
            clean = {key: value for key, value in os.environ.items() if not key.startswith("OPS_")}
            answer = run_ops(*words[1:], env={**clean, "OPS_HOME": str(home)}, cwd=tmp_path)
            answer.fine()
            assert "refused" not in answer.err
            made |= {path.name for path in rendered.iterdir()}
        wanted = [word for word in words if "/etc/ops/rendered/" in word]
        assert {Path(word).name for word in wanted} <= made, words
    site = (rendered / "ops-control-room.conf").read_text()
    assert "/etc/letsencrypt/live/ops.example.org/fullchain.pem" in site
    assert "allow 203.0.113.0/24;" in site
    assert "root /var/www/html;" in site  # where the page lets certbot answer


def test_secrets_of_a_container_are_those_that_its_script_reads() -> None:
    (packed,) = [words for words in steps() if words[0] == "tar"]
    script = (ROOT / "deployments" / "hosting" / "worker_container.sh").read_text()
    (needed,) = re.findall(r"^for name in (secrets\.json [^;]+); do$", script, re.MULTILINE)
    assert set(needed.split()) <= set(packed)


@pytest.mark.parametrize("heading", [f"## {number}. " for number in range(1, 9)])
def test_steps_are_numbered_in_order(heading: str) -> None:
    assert PAGE.count(heading) == 1
    numbers = [int(number) for number in re.findall(r"^## (\d+)\. ", PAGE, re.MULTILINE)]
    assert numbers == list(range(1, 9))
