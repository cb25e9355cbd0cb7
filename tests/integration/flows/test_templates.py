"""Templates that run: the seed's as they stand, and what the optional fields promise."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.blocks.system import Secret

from flows.engine.active_run import ActiveRun, activated
from flows.engine.dry_run import DryRun, dry_run, load_runbook
from flows.template.reading import ReadTemplate, read_template
from flows.template.run import runbook_of
from opsdb.errors import OpsError, PreflightError, StepFailedError, StepTimeoutError, UsageError
from opsdb.processes.kill import kill_processes
from opsdb.record.entries import Entry, Event, StepFinished, StepStarted, TemplateUsed
from opsdb.settings import load_settings

PARAMS = {"name": {}, "names": {"type": "list"}, "n": {"type": "integer"}, "sure": {"type": "boolean"}}
SEED = Path(__file__).parents[2] / "seed_templates"
STAND_IN = """#!/bin/bash
{{ printf '%s' "${{0##*/}}"; [ $# -eq 0 ] || printf ' %q' "$@"; echo; }} >> {ledger}
{body}
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def programs(tmp_path: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts stand-ins on the PATH: each writes its arguments into the ledger, and does what its body says."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def install(**bodies: str) -> None:
        for name, body in bodies.items():
            (folder / name).write_text(STAND_IN.format(ledger=ledger, body=body))
            (folder / name).chmod(0o755)

    return install


@contextlib.contextmanager
def there(folder: Path) -> Iterator[None]:
    """A folder that the seed's commands name: made, and taken away, unless it was there."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if missing:
            shutil.rmtree(missing[-1])


def write(folder: Path, *steps: dict[str, Any], **fields: Any) -> Path:
    path = folder / "made_up.json"
    numbered = [{"name": f"step_{number}", "timeout": 10, **one} for number, one in enumerate(steps, 1)]
    path.write_text(json.dumps({"kind": "made_up", "steps": numbered, **fields}))
    return path


class Ran:
    """What became of a template that was run here, by what it recorded."""

    def __init__(self, template: Path | ReadTemplate, *, fenced_in: str = "", **values: Any) -> None:
        runbook = runbook_of(read_template(template) if isinstance(template, Path) else template)
        self.entries: list[Entry] = []
        self.error: Exception | None = None
        self.result: Any = None

        def record(entry: Entry) -> None:
            self.entries.append(entry)
            if fenced_in and getattr(entry, "name", "") == fenced_in:
                run.fenced.set()

        run = ActiveRun(id=uuid4(), attempt=1, settings=load_settings(), record=record, in_lane=False)
        self.logs = run.log_dir
        with activated(run):
            try:
                self.result = runbook.fn.__wrapped__(**runbook.validate_parameters(values))  # type: ignore[attr-defined]
            except OpsError as error:
                self.error = error
        kill_processes(run_id=str(run.id), grace_seconds=5)

    @property
    def steps(self) -> list[tuple[str, str]]:
        """Name and status of each step, in order."""
        names = {entry.index: entry.name for entry in self.entries if isinstance(entry, StepStarted)}
        ended = {entry.index: entry.status for entry in self.entries if isinstance(entry, StepFinished)}
        return [(name, str(ended[index])) for index, name in names.items()]

    @property
    def events(self) -> list[str]:
        return [entry.message for entry in self.entries if isinstance(entry, Event)]


def plan(path: Path, **values: Any) -> DryRun:
    return dry_run(runbook_of(read_template(path)), values, settings=load_settings())


def test_seed_backup_runs_as_it_stands(programs: Any, ledger: Path, tmp_path: Path) -> None:
    backups = Path("/var/lib/odoo/backups")
    programs(
        pg_dump='[ -n "${5-}" ] || exit 1; echo "dump of $5"',
        s3cmd='for file in "${@:2:$#-2}"; do [ -s "$file" ] || exit 66; done',
    )
    shutil.copy(SEED / "odoo_db_backup.json", tmp_path)
    with there(backups):
        old = backups / "old.dump.gz"
        old.write_text("x")
        os.utime(old, (1, 1))
        backup: Any = runbook_of(read_template(tmp_path / "odoo_db_backup.json"))
        result = backup(odoo_db="probe", s3_bucket="your-do-space/odoo-backups")
        made = sorted(backups.glob("probe_*.dump.gz"))
        assert len(made) == 1
        assert not old.exists()
        assert result["template"] == "odoo_db_backup.json"
        made[0].unlink()
    dump, upload = ledger.read_text().splitlines()
    assert dump == "pg_dump -Fc -h localhost -U odoo probe"
    assert upload == f"s3cmd put {made[0]} s3://your-do-space/odoo-backups/db/"


def test_seed_upgrade_runs_as_it_stands(programs: Any, ledger: Path, tmp_path: Path) -> None:
    programs(git="pwd", docker="", sleep="", curl='[ "$2" = http://localhost:8069/web/health ]')
    shutil.copy(SEED / "odoo_module_upgrade.json", tmp_path)
    with there(Path("/opt/odoo")):
        runbook_of(read_template(tmp_path / "odoo_module_upgrade.json"))(odoo_db="odoo_prod", modules=["sale", "stock"])
    compose = "docker compose -f deploy/docker-compose.prod.yml"
    odoo = f"{compose} exec -T odoo odoo -d odoo_prod -u"
    assert ledger.read_text().splitlines() == [
        "git pull origin main",
        f"{odoo} sale\\,stock --stop-after-init",
        f"{odoo} web\\,sale\\,stock --stop-after-init",
        f"{compose} restart odoo",
        "sleep 120",
        "curl -f http://localhost:8069/web/health",
    ]


def test_seed_deploy_runs_as_it_stands(programs: Any, ledger: Path, tmp_path: Path) -> None:
    programs(doctl="", git="", certbot="", curl="")
    shutil.copy(SEED / "odoo_fresh_deploy.json", tmp_path)
    scripts = tmp_path / "scripts"
    (scripts / "deploy").mkdir(parents=True)
    for name in ("setup-firewall.sh", "install-postgresql.sh", "setup-nginx.sh"):
        (scripts / name).write_text(f"echo {name} >> {ledger}\n")
    (scripts / "deploy" / "bootstrap_from_tag.sh").write_text(
        f'echo "bootstrap $GIT_REF $ODOO_DB $COMPOSE_FILE $PWD" >> {ledger}\n'
    )
    runbook_of(read_template(tmp_path / "odoo_fresh_deploy.json"))(
        git_ref="v18.2", odoo_db="odoo_prod", domain="erp.example.com", email="ops@example.com"
    )
    assert ledger.read_text().splitlines() == [
        "doctl compute droplet create odoo-prod --size s-4vcpu-8gb --image ubuntu-22-04-x64 --region sgp1",
        "setup-firewall.sh",
        "install-postgresql.sh",
        "git clone https://github.com/jgtolentino/odoo-ce.git /opt/odoo",
        f"bootstrap v18.2 odoo_prod deploy/docker-compose.prod.yml {tmp_path}",
        "setup-nginx.sh",
        "certbot --nginx -d erp.example.com --non-interactive --agree-tos -m ops@example.com",
        "curl -f https://erp.example.com/web/health",
    ]


def test_seed_names_programs_that_are_missing_before_step_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = read_template(SEED / "odoo_db_backup.json")
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = Ran(template, odoo_db="probe", s3_bucket="good/db")
    assert isinstance(ran.error, PreflightError)
    for name in ("pg_dump", "gzip", "s3cmd"):
        assert f"{name} is not on the PATH" in str(ran.error)
    assert ran.steps == [("preflight", "failed")]


@pytest.mark.parametrize("values", [{"modules": []}, {"modules": ["sale"], "colour": "red"}, {}])
def test_seed_upgrade_refuses_what_does_not_fit(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="do not fit"):
        plan(SEED / "odoo_module_upgrade.json", **({"odoo_db": "good"} if values else {}), **values)


def test_step_that_fails_is_tried_again_and_each_try_is_on_record(tmp_path: Path) -> None:
    command = f"echo x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) -ge 3 ]"
    policy = {"retries": 1, "delay_seconds": 0.2}
    ran = Ran(write(tmp_path, {"command": command, "retries": 2}, retry_policy=policy))
    assert ran.error is None
    assert ran.steps == [
        ("preflight", "succeeded"),
        ("step_1", "failed"),
        ("step_1", "failed"),
        ("step_1", "succeeded"),
    ]
    assert ran.events == [
        "step step_1 failed in try 1 of 3: the next one in 0.2 s",
        "step step_1 failed in try 2 of 3: the next one in 0.2 s",
    ]
    assert len(list(ran.logs.glob("*-step_1.log"))) == 3
    (tmp_path / "tries").unlink()
    again = Ran(write(tmp_path, {"command": command}, retry_policy=policy))
    assert isinstance(again.error, StepFailedError)
    assert [name for name, _ in again.steps] == ["preflight", "step_1", "step_1"]


def test_on_failure_steps_run_and_never_hide_the_first_error(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"command": "echo first >&2; exit 3", "on_failure": [{"name": "own", "command": "exit 4", "timeout": 5}]},
        {"command": "true", "on_failure": [{"name": "others", "command": "true", "timeout": 5}]},
        on_failure=[{"name": "last", "command": 'echo "$domain" > seen', "timeout": 5}],
        params={"domain": {}},
    )
    ran = Ran(path, domain="good.example")
    assert isinstance(ran.error, StepFailedError)
    assert "exit code 3" in str(ran.error)
    assert "first" in str(ran.error)
    assert ran.steps == [("preflight", "succeeded"), ("step_1", "failed"), ("own", "failed"), ("last", "succeeded")]
    assert (tmp_path / "seen").read_text() == "good.example\n"
    assert any("on_failure step own failed as well" in message and "exit code 4" in message for message in ran.events)


def test_on_failure_steps_do_not_run_for_a_preflight_nor_a_success(tmp_path: Path) -> None:
    after = [{"name": "after", "command": "true", "timeout": 5}]
    ran = Ran(write(tmp_path, {"command": "true"}, on_failure=after, preflight=["not-there-at-all"]))
    assert "not-there-at-all is not on the PATH" in str(ran.error)
    assert ran.steps == [("preflight", "failed")]
    assert Ran(write(tmp_path, {"command": "true"}, on_failure=after)).steps[-1] == ("step_1", "succeeded")


def test_on_failure_steps_do_not_run_for_a_run_that_is_stopped(tmp_path: Path) -> None:
    class StoppedError(BaseException):
        pass

    def stop(*_: object) -> None:
        raise StoppedError

    after = [{"name": "after", "command": f"touch {tmp_path}/after", "timeout": 5}]
    last = [{**after[0], "name": "last"}]
    path = write(tmp_path, {"command": f"touch {tmp_path}/begun; sleep 30", "on_failure": after}, on_failure=last)
    before = signal.signal(signal.SIGUSR1, stop)

    def wait_and_stop() -> None:
        for _ in range(200):
            if (tmp_path / "begun").exists():
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=wait_and_stop)
    try:
        thread.start()
        with pytest.raises(StoppedError):
            Ran(path)
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert not (tmp_path / "after").exists()


def test_run_that_was_taken_away_does_nothing_more(tmp_path: Path) -> None:
    after = [{"name": "after", "command": "true", "timeout": 5}]
    path = write(tmp_path, {"command": "exit 3", "retries": 2}, on_failure=after)
    ran = Ran(path, fenced_in="step_1")
    assert ran.steps == [("preflight", "succeeded"), ("step_1", "failed")]
    assert ran.events == []


@pytest.mark.gate
def test_template_has_a_time_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, {"command": "sleep 1.2"}, {"command": "sleep 30", "timeout": 20}, timeout_seconds=5)
    started = time.monotonic()
    ran = Ran(path)
    assert isinstance(ran.error, StepTimeoutError)
    assert time.monotonic() - started < 18
    assert ran.steps[1:] == [("step_1", "succeeded"), ("step_2", "failed")]
    assert any(re.search(r"step step_2 gets [0-3]\.", message) for message in ran.events)


def test_steps_run_where_they_belong_with_what_belongs_to_them(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    see = 'echo "$PWD|${GREETING-}|$PARAM_COLOUR|$COLOUR|$colour" >> ' + f"{tmp_path}/seen"
    path = write(
        tmp_path,
        {"command": see, "env": {"GREETING": "hi ${params.colour} $HOME $(id)"}},
        {"command": see, "working_dir": "sub", "env": {"COLOUR": "own"}},
    )
    assert Ran(path, colour="a b").error is None
    assert (tmp_path / "seen").read_text().splitlines() == [
        f"{tmp_path}|hi a b $HOME $(id)|a b|a b|a b",
        f"{tmp_path}/sub||a b|own|a b",
    ]


def test_folder_that_is_missing_is_named_before_step_1(tmp_path: Path) -> None:
    ran = Ran(write(tmp_path, {"command": "true"}, {"command": "true", "working_dir": "/not/there"}))
    assert str(ran.error) == "the folder /not/there does not exist"
    assert ran.steps == [("preflight", "failed")]


def test_path_of_a_parameter_that_is_missing_is_named_before_step_1(tmp_path: Path) -> None:
    params = {
        "folder": {"existing": "folder"},
        "files": {"type": "list", "existing": "file", "default": ["made_up.json"]},
        "other": {"min_length": 0, "existing": "folder", "default": ""},
    }
    path = write(tmp_path, {"command": 'echo "$PARAM_FOLDER $PARAM_FILES $PARAM_OTHER"'}, params=params)
    assert Ran(path, folder=str(tmp_path)).error is None
    assert Ran(path, folder=".").error is None  # as the steps see it
    ran = Ran(path, folder=str(path), files=["made_up.json", "not_there"])
    assert isinstance(ran.error, PreflightError)
    assert str(ran.error) == (
        f"parameter folder: there is no folder {str(path)!r} on this host; "
        "parameter files: there is no file 'not_there' on this host"
    )
    assert ran.steps == [("preflight", "failed")]
    assert "parameter folder: there is no folder '/nope'" in (plan(path, folder="/nope").error or "")


def test_secrets_reach_the_command_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "from-the-worker-Vk7q")
    Secret(value="from-a-block-Xw9z").save("template-token", overwrite=True)
    path = write(
        tmp_path,
        {
            "command": 'printenv TOKEN PARAM_KEY HEADER | tr "\\n" " "; base64 <<< "$TOKEN"; cat <<< "$HEADER" > seen; '
            "exit 1",
            "env": {"HEADER": "Bearer ${params.token}"},
        },
        params={"token": {"secret": {"env": "SOME_TOKEN"}}, "key": {"secret": {"block": "template-token"}}},
    )
    ran = Ran(path)
    assert isinstance(ran.error, StepFailedError)
    assert (tmp_path / "seen").read_text() == "Bearer from-the-worker-Vk7q\n"
    told = json.dumps(ran.entries, default=str) + str(ran.error)
    told += "".join(log.read_text() for log in ran.logs.iterdir())
    assert "*** *** ***" in told
    for part in ("from-the-worker", "Vk7q", "from-a-block", "Xw9z"):
        assert part not in told
    assert "token" not in runbook_of(read_template(path)).parameters.properties


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"env": "NOT_SET_HERE"}, "secret token: the environment variable NOT_SET_HERE of the worker is not set"),
        ({"block": "not-there"}, "secret token: there is no Secret block 'not-there' in Prefect"),
        ({"env": "SHORT"}, "secret token: secret token has fewer than 6 characters"),
    ],
)
def test_secret_that_is_missing_is_named_before_step_1(
    source: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT", "abc")
    ran = Ran(write(tmp_path, {"command": "true"}, params={"token": {"secret": source}}))
    assert expected in str(ran.error)
    assert ran.steps == [("preflight", "failed")]


def test_dry_run_shows_what_it_would_do_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "from-the-worker-Vk7q")
    path = write(
        tmp_path,
        {"command": f"touch {tmp_path}/ran ${{params.name}}", "env": {"T": "x ${params.token}"}},
        params={"token": {"secret": {"env": "SOME_TOKEN"}}, "name": {}},
        timeout_seconds=5,
    )
    planned = plan(path, name="good")
    assert planned.error is None
    assert [one.name for one in planned.steps] == ["preflight", "step_1"]
    assert planned.steps[1].command == f"touch {tmp_path}/ran good"
    assert planned.steps[1].environment["T"] == "***"
    assert planned.steps[1].environment["PARAM_NAME"] == "good"
    assert "Vk7q" not in repr(planned)
    assert not (tmp_path / "ran").exists()


def test_value_that_no_form_kept_out_is_refused_by_the_run_itself(tmp_path: Path) -> None:
    path = write(tmp_path, {"command": f"touch {tmp_path}/ran/${{params.name}}"}, params={"name": {}})
    read = read_template(path)
    loose = replace(read, parameters=tuple(replace(one, annotation=str) for one in read.parameters))
    for value, reason in {"a b": "name contains ' '", "a\n": "name contains '\\n'", "": "name is empty"}.items():
        ran = Ran(loose, name=value)
        assert isinstance(ran.error, PreflightError)
        assert str(ran.error).startswith(reason)
        assert ran.steps == [("preflight", "failed")]
    assert not (tmp_path / "ran").exists()


def test_record_has_the_command_that_ran(tmp_path: Path) -> None:
    path = write(
        tmp_path, {"command": "echo ${params.name} ${params.names} ${params.n} '${params.sure}'"}, params=PARAMS
    )
    ran = Ran(path, name="a", names=["b", "c"], n=-5, sure=True)
    commands = [entry.command for entry in ran.entries if isinstance(entry, StepStarted)]
    assert commands[1:] == ["echo a b,c -5 'true'"]


def test_run_says_which_template_it_executes(tmp_path: Path) -> None:
    path = write(tmp_path, {"command": "true"}, timeout_seconds=50)
    ran = Ran(path)
    (used,) = [entry for entry in ran.entries if isinstance(entry, TemplateUsed)]
    assert used.name == "made_up"
    assert used.definition == ran.result["definition"] == read_template(path).template.definition
    assert used.template["timeout_seconds"] == 50


def test_templates_in_the_folders_are_runbooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_TEMPLATES", str(tmp_path))
    write(tmp_path, {"command": "echo ${params.word} > word"})
    runbook = load_runbook("flows.templates.made_up")
    runbook(word="good")
    assert (tmp_path / "word").read_text() == "good\n"
    write(tmp_path, {"command": "echo another > word"})
    load_runbook("flows.templates.made_up")()  # as the file is now
    assert (tmp_path / "word").read_text() == "another\n"
    write(tmp_path, {"command": "eval ${params.word}"})
    with pytest.raises(UsageError, match=r"made_up.json: step step_1: command: \$\{params.word\} is used after `eval`"):
        load_runbook("flows.templates.made_up")
    with pytest.raises(UsageError, match="no template file has the kind 'unknown'"):
        load_runbook("flows.templates.unknown")


def test_template_that_comes_with_the_room_runs(tmp_path: Path) -> None:
    disk_space: Any = load_runbook("flows.templates.disk_space")
    assert disk_space(folder=str(tmp_path), most_percent=100)["template"] == "disk_space.yaml"
    with pytest.raises(StepFailedError, match="more than 1 %: make room"):
        disk_space(folder=str(tmp_path), most_percent=1)
    with pytest.raises(PreflightError, match="parameter folder: there is no folder"):
        disk_space(folder=str(tmp_path / "nope"))
