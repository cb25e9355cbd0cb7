"""How an upgrade ends that does not end well: what stands in the database, who works in it, and what the run says."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import psycopg
import pytest

from flows import odoo_module_upgrade as module
from flows.engine.active_run import ActiveRun
from flows.odoo import broken_upgrade, module_states
from flows.odoo.broken_upgrade import GUARDED
from opsdb.errors import PreflightError, StepFailedError, StepTimeoutError
from tests.integration.flows.odoo_sites import COMPOSE, Site, ending, git, half_done, upgrading
from tests.support.waiting import wait_for

BEFORE = dict.fromkeys(("base", "sale", "stock", "web"), ("installed", "18.0.1"))
HALF = BEFORE | {"sale": ("installed", "18.0.2")}
"""What a real Odoo has committed when it is ended in the middle: each module by itself."""


FOREIGN = """
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER foreign_one BEFORE INSERT ON ir_module_module EXECUTE FUNCTION f();
"""


def carried_on(site: Site) -> list[list[str]]:
    """What the web server did of an upgrade, by itself."""
    return [call for call in site.odoo_calls() if call[0] == "carried on"]


def is_over(site: Site, modules: dict[str, tuple[str, str]]) -> None:
    """Nothing is left half way, nobody works on it any more, and people are let in again."""
    assert site.modules() == modules
    assert carried_on(site) == []
    assert list(site.daemon.containers) == ["odoo"]
    assert not site.daemon.stopped


@pytest.mark.promise(16)
def test_failure_in_the_middle_leaves_no_mark_and_names_what_was_committed(site: Site, told: list[str]) -> None:
    site.manner.write_text("hangs")
    commit = site.commit("second")

    def kill() -> None:
        wait_for(lambda: half_done(site))
        psutil.Process(upgrading(site)[0]).kill()

    with (
        ending(kill),
        pytest.raises(StepFailedError, match=r"was committed: sale 18.0.1 to 18.0.2; put back") as failed,
    ):
        site.upgrade()
    is_over(site, HALF)
    said = str(failed.value)
    assert f"put back: stock (to upgrade); odoo runs again, with commit {commit[:12]}" in said
    assert "--from-failed` upgrades again" in said
    assert any(f"of the upgrade of {site.database} was committed: sale" in message for message in told)


@pytest.mark.promise(16)
def test_cancelled_upgrade_is_over_in_the_database_too(site: Site, start_flow: Callable[..., psutil.Popen]) -> None:
    site.manner.write_text("hangs")
    facts = {"repo_dir": str(site.checkout), "health_url": site.health}
    run = start_flow(site.database, "odoo_module_upgrade", modules=["sale"], **facts)
    wait_for(lambda: half_done(site), seconds=60)
    run.send_signal(signal.SIGTERM)
    assert run.wait(30) != 0
    is_over(site, HALF)


def test_odoo_that_is_deaf_and_holds_locks_is_ended_before_its_marks_are_put_back(
    site: Site, start_flow: Callable[..., psutil.Popen]
) -> None:
    site.manner.write_text("hangs deaf")
    facts = {"repo_dir": str(site.checkout), "health_url": site.health}
    run = start_flow(site.database, "odoo_module_upgrade", modules=["sale"], **facts)
    wait_for(lambda: site.modules()["sale"][0] == "to upgrade", seconds=60)
    run.send_signal(signal.SIGTERM)
    assert run.wait(120) != 0
    is_over(site, BEFORE)


@pytest.mark.parametrize("client_goes", [False, True])
def test_time_limit_is_the_reason_that_is_shown(site: Site, monkeypatch: pytest.MonkeyPatch, client_goes: bool) -> None:
    site.manner.write_text("hangs")
    monkeypatch.setattr(module, "find_minutes", lambda *_, **__: 0.1)

    def kill_client() -> None:
        wait_for(lambda: half_done(site))
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it ended meanwhile
                if client_goes and any("docker" in word for word in process.cmdline()[1:3]):
                    process.kill()

    with ending(kill_client), pytest.raises(StepFailedError) as failed:
        site.upgrade()
    reason = str(failed.value).splitlines()[:2]
    if client_goes:
        assert "exit code 137" in reason[0]
    else:
        assert reason == ["step upgrade_modules failed: exit code 124", "| time limit of 6 s reached"]
    is_over(site, HALF)


@pytest.mark.gate
def test_step_that_overruns_ends_odoo_in_the_container_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.manner.write_text("hangs")
    monkeypatch.setattr(module, "find_minutes", lambda *_, **__: 1.2)
    monkeypatch.setattr(module, "ENDING_SECONDS", -60)  # its own limit does not help
    for name in ("ASK_SECONDS", "CODE_SECONDS", "PULL_SECONDS", "STOP_SECONDS"):
        monkeypatch.setattr(module, name, 30)
    with pytest.raises(StepTimeoutError, match="ran longer than 12 s"):
        site.upgrade()
    is_over(site, HALF)


@pytest.mark.parametrize(
    ("manner", "message", "modules"),
    [
        ("fails", r"\| odoo.tools.convert.ParseError: .* Element '<field name=.no_such_field_x.>' cannot be", BEFORE),
        (
            "code is gone",
            r"\| odoo.modules.loading: Some modules have inconsistent states.*: \['sale'\]",
            BEFORE | {"stock": ("installed", "18.0.2")},
        ),
        ("half way", "sale is to upgrade", BEFORE | {"stock": ("installed", "18.0.2")}),
        ("not upgraded", "did not upgrade: sale is at 18.0.1, and its code at 18.0.2", BEFORE),
        ("no assets", "without having dropped", HALF | {"stock": ("installed", "18.0.2")}),
    ],
)
def test_odoo_that_does_not_do_its_work_fails_the_run_whatever_its_exit_code(
    site: Site, manner: str, message: str, modules: dict[str, tuple[str, str]]
) -> None:
    site.manner.write_text(manner)
    with pytest.raises(StepFailedError, match=message):
        site.upgrade()
    is_over(site, modules)


def test_odoo_of_another_server_is_found_before_the_checkout(site: Site) -> None:
    site.manner.write_text("another")
    before = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second")
    with pytest.raises(StepFailedError, match=r"another database .* is another, .* the-uuid-of-it"):
        site.upgrade()
    assert git(site.checkout, "rev-parse", "HEAD") == before
    assert site.upgrades() == []


@pytest.mark.parametrize("mark", ["to remove", "to install", "to upgrade"])
def test_what_somebody_else_marked_is_refused_and_named_before_anything_is_touched(site: Site, mark: str) -> None:
    site.daemon.stop_service()  # it would carry that out
    site.mark("web", mark)
    before = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second")
    with pytest.raises(PreflightError, match=f"marked already, .*: web is {mark}"):
        site.upgrade()
    assert git(site.checkout, "rev-parse", "HEAD") == before
    assert site.odoo_calls() == []
    assert site.modules()["web"][0] == mark


def test_what_somebody_marked_since_the_preflight_is_refused_once_the_service_is_stopped(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays as they marked it: of that, too, Odoo makes what it makes at each start."""
    monkeypatch.setattr(site.daemon, "start_service", lambda: None)  # it carries marks on at once

    def stop() -> None:
        site.daemon.stopped = True
        site.daemon._stop("odoo", 1)
        site.mark("web", "to remove")

    monkeypatch.setattr(site.daemon, "stop_service", stop)
    with pytest.raises(StepFailedError, match=r"marked already, .*: web is to remove"):
        site.upgrade()
    assert site.upgrades() == []
    assert site.modules() == BEFORE | {"web": ("to remove", "18.0.1")}


def test_second_odoo_on_the_database_is_named_and_nothing_is_upgraded_beside_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_states, "SESSIONS_SECONDS", 0.2)
    monkeypatch.setattr(
        module, "wait_until_alone", lambda name, url: module_states.wait_until_alone(name, url=url, seconds=0.2)
    )
    with (
        psycopg.connect(site.database_url, application_name="odoo-4711"),
        pytest.raises(StepFailedError, match=r"another Odoo is connected to .*: odoo-4711 from this host"),
    ):
        site.upgrade()
    assert site.upgrades() == []
    is_over(site, BEFORE)


def test_code_of_before_is_back_where_the_upgrade_ended_before_it_touched_a_module(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new code needs columns that the database of before lacks. What other people do there is left alone."""
    before = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second")
    at_start: list[str] = []
    start_service = site.daemon.start_service

    def start() -> None:
        at_start.append(git(site.checkout, "rev-parse", "HEAD"))
        start_service()

    monkeypatch.setattr(site.daemon, "start_service", start)
    monkeypatch.setattr(
        module, "wait_until_alone", lambda name, url: module_states.wait_until_alone(name, url=url, seconds=0.2)
    )
    with psycopg.connect(site.database_url, application_name="odoo-4711") as stranger:
        with pytest.raises(StepFailedError, match="another Odoo is connected") as failed:
            site.upgrade()
        assert stranger.execute("SELECT 1").fetchone() == (1,)
    assert at_start == [before]
    assert git(site.checkout, "rev-parse", "HEAD") == before
    assert f"no module of {site.database} was touched by this attempt; odoo runs again, with commit {before[:12]}" in (
        str(failed.value)
    )
    is_over(site, BEFORE)


def test_way_back_by_hand_names_the_submodules(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second")
    monkeypatch.setattr(broken_upgrade, "CODE_BACK", 'echo "no space left" >&2\nexit 1\n')
    monkeypatch.setattr(module, "_check_alone", refuse)
    with pytest.raises(StepFailedError, match="no space left") as failed:
        site.upgrade()
    there = f"git checkout --detach {before[:12]} in {site.checkout}, then git submodule update --recursive there"
    assert f"Hint: {there}, then docker compose -f {COMPOSE} up -d odoo" in str(failed.value)
    assert site.daemon.stopped


def refuse(_database: str) -> None:
    raise StepFailedError("somebody works there")


def test_other_databases_that_the_service_may_serve_are_named(site: Site, told: list[str], postgres: str) -> None:
    other, plain = f"a_{site.database}", f"{site.database}_plain"  # of many others the first are named
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        for name in (other, plain):
            db.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    with psycopg.connect(postgres.format(database=other)) as db:
        db.execute("CREATE TABLE ir_module_module (name text, state text, latest_version text)")
        db.execute("INSERT INTO ir_module_module VALUES ('hr', 'to upgrade', '1'), ('web', 'installed', '1')")
    site.upgrade()
    assert any(
        message.startswith(f"modules of {other} are marked: hr is to upgrade. If odoo serves") for message in told
    )
    [said] = [message for message in told if message.startswith("other Odoo databases on the same ")]
    named = said.split(": ")[1].split(". Those")[0].split(", ")
    assert other in named
    assert not {site.database, plain}.intersection(named)
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        for name in (other, plain):
            db.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_second_upgrade_of_a_database_that_is_being_upgraded_is_refused(site: Site) -> None:
    other = site.daemon.run_beside(f"ops-upgrade-{site.database}", ["sleep", "60"])
    with pytest.raises(
        StepFailedError, match=f"another upgrade of {site.database} runs, in the container ops-upgrade-"
    ):
        site.upgrade()
    assert other.poll() is None
    assert site.odoo_calls() == []


def test_container_that_a_killed_client_left_does_not_keep_the_next_upgrade_from_beginning(site: Site) -> None:
    site.daemon.run_beside(f"ops-upgrade-{site.database}", ["true"]).wait(5)
    site.upgrade()
    assert site.modules()["sale"] == ("installed", "18.0.2")


def test_service_is_not_started_while_marks_stand_that_could_not_be_put_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.manner.write_text("half way")
    monkeypatch.setattr(module, "check_may_put_back", lambda *_, **__: None)  # it came later
    with psycopg.connect(site.database_url) as db:
        db.execute(FOREIGN)
    with pytest.raises(StepFailedError, match=r"not everything was put back: .*foreign_one") as failed:
        site.upgrade()
    assert "odoo is not started: it would carry on" in str(failed.value)
    assert "ops retry" in str(failed.value)
    assert site.daemon.stopped
    assert carried_on(site) == []


@pytest.mark.parametrize("wrong", ["may only read", "a trigger"])
def test_database_whose_marks_could_not_be_put_back_is_refused_before_anything_changes(
    site: Site, postgres: str, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    before = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second")
    role = f"reader_{site.database}"
    with psycopg.connect(site.database_url) as db:
        if wrong == "a trigger":
            db.execute(FOREIGN)
        else:
            db.execute(f'CREATE ROLE "{role}" LOGIN')
            db.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"')
    if wrong == "may only read":
        as_reader = postgres.format(database="postgres").replace("//postgres@", f"//{role}@")
        monkeypatch.setenv("OPS_ODOO_DATABASE_URL", as_reader)
    message = "foreign_one" if wrong == "a trigger" else f"role '{role}' may not update public.ir_module_module"
    with pytest.raises(PreflightError, match=message):
        site.upgrade()
    assert git(site.checkout, "rev-parse", "HEAD") == before
    assert site.daemon.calls == []


def test_log_of_a_cancelled_step_is_among_the_artifacts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(ActiveRun, "artifact", lambda _run, *, name, **_: made.append(name))

    def interrupted(*_: object, log_path: Any, **__: object) -> None:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        log_path.write_text("it began")
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.engine.step.run_shell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        site.upgrade()
    [log] = made
    assert log.endswith("-ask_odoo.log")


def test_block_is_marked_while_it_lasts_so_that_a_cancelled_run_is_given_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries: list[tuple[str, bool]] = []
    recorded = ActiveRun.make_sure_of

    def look(run: ActiveRun, step: str) -> None:
        entries.append((step, run.puts_back))
        recorded(run, step)

    monkeypatch.setattr(ActiveRun, "make_sure_of", look)
    site.upgrade()
    assert [step for step, puts_back in entries if puts_back] == ["image", *GUARDED]
