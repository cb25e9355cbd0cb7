"""The workflow that deploys workers: judged by actionlint and zizmor, and its step run with a stand-in for doctl."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.hosting.do_app import DO_APP, DoAppValues
from deployments.hosting.github_actions import GITHUB_ACTIONS, GithubActionsValues, check_actionlint, check_zizmor
from deployments.hosting.template import Outcome, render
from tests.support.actionlint import install_actionlint
from tests.support.hosting import GOOD
from tests.support.programs import program
from tests.support.tiers import in_gate

DOCTL = """\
#!/bin/bash
echo "$*" >> "$CALLS"
case "$1 $2" in
    "apps get") cat "$ACTIVE" ;;
    "apps update") cat > "$SENT"; [ "$OUTCOME" = fails ] && exit 1; [ "$OUTCOME" = nothing ] || echo new > "$ACTIVE" ;;
esac
"""
SECRETS = {"OPS_DATABASE_URL": "postgresql://room:s3cret@db/ops", "ROOM_SECRETS": "H4sIAAAA+/w=="}


@pytest.fixture(scope="module", autouse=True)
def actionlint() -> Path:
    return install_actionlint()


def workflow(**values: Any) -> str:
    (text,) = render(GITHUB_ACTIONS, GithubActionsValues.model_validate(GOOD["github-actions"][0] | values)).values()
    return text


def test_checks_pass_what_is_rendered() -> None:
    files = {"deploy.yml": workflow()}
    verdict = check_actionlint(files)
    assert (verdict.outcome, verdict.said) == (Outcome.PASSED, "")
    assert check_zizmor(files).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("line", "broken", "said"),
    [
        ("runs-on: ubuntu-latest", "runs-onn: ubuntu-latest", "runs-onn"),
        *in_gate(
            [
                ("secrets.DO_ACCESS_TOKEN", "secret.DO_ACCESS_TOKEN", "undefined variable"),
                ("timeout-minutes: 30", "timeout-minutes: soon", "expecting a single"),
            ]
        ),
    ],
)
def test_actionlint_refuses_a_broken_workflow(line: str, broken: str, said: str) -> None:
    verdict = check_actionlint({"deploy.yml": workflow().replace(line, broken)})
    assert (verdict.outcome, said in verdict.said) == (Outcome.REFUSED, True), verdict.said


@pytest.mark.parametrize(
    ("line", "broken", "rule"),
    [
        ("actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8 # v5.0.0", "actions/checkout@v5", "unpinned-uses"),
        *in_gate(
            [
                ("persist-credentials: false", "fetch-depth: 1", "artipacked"),
                ("permissions: {}", "permissions: write-all", "excessive-permissions"),
                (
                    'doctl apps get "$APP_ID"',
                    "doctl apps get ${{ github.event.head_commit.message }}",
                    "template-injection",
                ),
            ]
        ),
    ],
)
def test_zizmor_refuses_an_unsafe_workflow(line: str, broken: str, rule: str) -> None:
    assert line in workflow()
    verdict = check_zizmor({"deploy.yml": workflow().replace(line, broken)})
    assert (verdict.outcome, rule in verdict.said) == (Outcome.REFUSED, True), verdict.said


def test_actions_are_pinned_and_permissions_least() -> None:
    text = workflow()
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", one) for one in re.findall(r"uses: (.+)", text))
    found = yaml.safe_load(text)
    assert found["permissions"] == {}
    assert [job["permissions"] for job in found["jobs"].values()] == [{"contents": "read"}]


def deploy(folder: Path, outcome: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the step that deploys, as GitHub does."""
    program("envsubst", package="gettext-base")
    step = yaml.safe_load(workflow(spec="do-app.yaml"))["jobs"]["deploy"]["steps"][-1]
    assert step["shell"] == "bash"
    (spec,) = render(DO_APP, DoAppValues.model_validate(GOOD["do-app"][0])).values()
    (folder / "do-app.yaml").write_text(spec)
    (folder / "active").write_text("old\n")
    (folder / "doctl").write_text(DOCTL)
    (folder / "doctl").chmod(0o755)
    places = {name.upper(): str(folder / name) for name in ("active", "calls", "sent")}
    given = {"PATH": f"{folder}:{os.environ['PATH']}", "OUTCOME": outcome, "APP_ID": "4f6c", "SPEC": "do-app.yaml"}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=folder,
        env={**places, **given, **SECRETS, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_step_deploys_once_and_puts_secrets_into_no_argument(tmp_path: Path) -> None:
    done = deploy(tmp_path, "deploys")
    assert (done.returncode, "deployment new is active" in done.stdout) == (0, True), done.stderr
    calls = (tmp_path / "calls").read_text()
    assert calls.count("apps update") == 1
    envs = yaml.safe_load((tmp_path / "sent").read_text())["workers"][0]["envs"]
    assert {one["key"]: one["value"] for one in envs if one.get("type") == "SECRET"} == SECRETS
    assert not [secret for secret in SECRETS.values() if secret in calls + done.stdout + done.stderr]


@pytest.mark.parametrize("outcome", ["fails", "nothing"])
def test_step_fails_when_the_deployment_of_before_is_still_the_active_one(tmp_path: Path, outcome: str) -> None:
    assert deploy(tmp_path, outcome).returncode != 0


@pytest.mark.parametrize("wrong", ['a"b', "a\\b", "a\nb", "a\tb"], ids=["quote", "backslash", "line break", "tab"])
@pytest.mark.parametrize("name", list(SECRETS))
def test_step_deploys_nothing_with_a_secret_that_would_change_the_spec(tmp_path: Path, name: str, wrong: str) -> None:
    done = deploy(tmp_path, "deploys", **{name: wrong})
    assert done.returncode == 1
    assert f"::error::the secret {name} holds a quote, a backslash or a control character" in done.stdout
    assert wrong not in done.stdout + done.stderr
    assert not (tmp_path / "calls").exists()


def test_step_deploys_nothing_without_its_secrets(tmp_path: Path) -> None:
    done = deploy(tmp_path, "deploys", ROOM_SECRETS="")
    assert (done.returncode, "the secret ROOM_SECRETS is not set" in done.stdout) == (1, True)
    assert not (tmp_path / "calls").exists()
