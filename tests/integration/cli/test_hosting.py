"""`ops render`, `ops size` and `ops cost` as an operator types them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from deployments.hosting.cost import GUIDE
from deployments.hosting.registry import TEMPLATES
from tests.support.commands import Answer, run_ops
from tests.support.programs import program
from tests.support.tiers import in_gate

URL = "https://ops.example.org"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for a room that never started."""
    made = tmp_path / "room"
    made.mkdir(mode=0o700)
    return made


def ops(home: Path, *arguments: str, path: str = os.environ["PATH"]) -> Answer:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OPS_")}
    return run_ops(*arguments, env={**clean, "OPS_HOME": str(home), "PATH": path}, cwd=home.parent)


def test_file_goes_to_stdout_and_what_checked_it_to_stderr(home: Path) -> None:
    program("nginx", package="nginx-light")
    answer = ops(home, "render", "nginx", "--set", f"server_url={URL}")
    assert answer.fine().startswith("# Rendered by `ops render nginx`")
    assert answer.err.splitlines() == ["nginx -t: passed", "gixy: passed"]


def test_files_are_written_and_named(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    answer = ops(home, "render", "systemd", "--set", f"home={home}", "--out", str(out))
    assert answer.fine() == ""
    assert {str(path) for path in out.iterdir()} == {
        line.removeprefix("written: ") for line in answer.err.splitlines() if line.startswith("written: ")
    }
    assert {path.name for path in out.iterdir()} == set(TEMPLATES["systemd"].files)


def test_room_says_where_it_is_and_the_hosting_file_the_rest(home: Path) -> None:
    (home / "ops.toml").write_text(f'server_url = "{URL}/room"\nprefect_port = 4300\n')
    (home / "hosting.toml").write_text('[nginx]\nallow_from = ["10.0.0.0/8"]\n')
    rendered = ops(home, "render", "nginx").fine()
    for line in ("location /room/ {", "proxy_pass http://127.0.0.1:4300;", "allow 10.0.0.0/8;"):
        assert line in rendered


def test_program_that_is_not_here_is_said_to_be_missing(home: Path, tmp_path: Path) -> None:
    """Nothing claims to have been checked that was not: systemd's is only on PATH, and this PATH is empty."""
    answer = ops(home, "render", "github-actions", "--set", "app_id=4f6c71e2-1e90-4762-9fee-6cc4a0a9f2cf")
    assert "zizmor: passed" in answer.err
    answer = ops(home, "render", "do-app", "--set", "repository=a/b", "--set", "room_ssh=t@h", path=str(tmp_path))
    assert "doctl apps spec validate: not checked: doctl is not installed here" in answer.err
    assert answer.fine()


def test_what_a_program_refuses_is_not_written(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    nginx = tmp_path / "bin" / "nginx"
    nginx.write_text("#!/bin/sh\necho 'nginx: [emerg] no' >&2\nexit 1\n")
    nginx.chmod(0o755)
    arguments = ("render", "nginx", "--set", f"server_url={URL}", "--out", str(tmp_path))
    answer = ops(home, *arguments, path=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert (answer.code, "nginx -t: refused: nginx: [emerg] no" in answer.err) == (2, True)
    assert "nothing was written" in answer.err
    assert not list(tmp_path.glob("*.conf"))


@pytest.mark.gate
def test_names_of_templates_and_of_values_are_listed(home: Path) -> None:
    assert all(name in ops(home, "render").fine() for name in TEMPLATES)
    for name, template in TEMPLATES.items():
        listed = ops(home, "render", name, "--values").fine()
        assert all(field in listed for field in template.values.model_fields)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nginxx"], "Did you mean nginx?"),
        (["nginx"], "server_url is missing"),
        *in_gate(
            [
                (["nginx", "--set", "server_url"], "expected key=value"),
                (["systemd", "--set", "home=/a b"], "expected an absolute path"),
                (["ufw", "--out", "nowhere"], "there is no folder"),
                (["nginx", "--set", "wrong", "--out", "nowhere"], "there is no folder"),
                (["ufw", "--settings", "nowhere.toml"], "there is no file"),
            ]
        ),
    ],
)
def test_render_refuses_in_one_line(home: Path, arguments: list[str], said: str) -> None:
    answer = ops(home, "render", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err.splitlines()[-1]


def test_size_is_the_same_for_a_tier_and_its_runs(home: Path) -> None:
    by_tier = json.loads(ops(home, "size", "--tier", "small", "--json").fine())
    by_runs = json.loads(ops(home, "size", "--concurrent", "12", "--json").fine())
    assert by_tier == by_runs
    assert by_tier["tier"]["droplet"] == "s-4vcpu-8gb"
    shown = ops(home, "size", "--tier", "small").fine()
    assert "OPS_LANE_LIMIT=3" in shown
    assert "1.3 GB in all" in shown
    assert ops(home, "size").fine() == shown  # three runs in each lane are the default


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tier", "small", "--concurrent", "3"], "--concurrent and --tier exclude each other"),
        *in_gate(
            [
                (["--tier", "huge"], "invalid value 'huge' (choose from dev, small, medium, large)"),
                (["--concurrent", "0"], "expected 1 to 400"),
                (["--concurrent", "401"], "expected 1 to 400"),
            ]
        ),
    ],
)
def test_size_refuses_in_one_line(home: Path, arguments: list[str], said: str) -> None:
    assert said in ops(home, "size", *arguments).refused(2)


def test_cost_is_of_the_guide_until_the_room_has_a_table(home: Path) -> None:
    answer = ops(home, "cost", "--json")
    assert "these are the guide's prices" in answer.err
    assert json.loads(answer.fine())["sum"] == "68"
    assert "172 USD a month less than Odoo.com SH (15 users), 240: 72 %" in ops(home, "cost").fine()
    (home / "hosting.toml").write_text('[[cost.items]]\ncomponent = "a"\nservice = "b"\neach = 2.5\ncount = 2\n')
    answer = ops(home, "cost", "--json")
    assert (answer.err, json.loads(answer.fine())["sum"]) == ("", "5.0")


@pytest.mark.gate
def test_cost_says_what_is_dearer(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "hosting.toml"
    path.write_text(GUIDE.read_text().replace("compared_monthly = 240", "compared_monthly = 34"))
    said = ops(home, "cost", "--settings", str(path)).fine()
    assert "34 USD a month more than Odoo.com SH (15 users), 34: 100 %" in said


@pytest.mark.gate
def test_cost_names_a_file_without_a_table(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "hosting.toml"
    path.write_text("[ufw]\n")
    assert "has no table [cost]" in ops(home, "cost", "--settings", str(path)).refused(2)
