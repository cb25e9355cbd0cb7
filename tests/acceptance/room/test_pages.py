"""The operator's day in a real browser: the pages of the Prefect UI, as somebody who is not logged in finds them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk, processes_with
from tests.acceptance.room.pages import Pages, pages_of
from tests.support.waiting import stopped, wait_for

PICTURES = os.environ.get("OPS_TEST_PICTURES")
"""Folder for the pictures of the documentation, which `make pictures` names."""


ASKS = """
kind: ask_first
description: Restarts a service after somebody has approved it.
params: {service: {description: The service.}}
steps:
  - name: restart
    approval: {question: "Restart ${params.service} in production?", timeout: 3600}
    command: echo restarted ${params.service}
    timeout: 60
"""


@pytest.fixture(scope="module")
def pages(desk: Desk, api: Api) -> Iterator[Pages]:
    """A tab in which somebody is logged in."""
    with pages_of(desk, api) as pages:
        pages.open("/v2/runs")
        pages.log_in()
        yield pages


@pytest.fixture
def production(desk: Desk) -> Iterator[str]:
    """A database whose backup takes seconds: its texts are random, so pg_dump has to work to compress them."""
    with desk.database("postgres") as db:
        db.execute("CREATE DATABASE odoo_prod TEMPLATE template0")
        with desk.database("odoo_prod") as inside:
            texts = "string_agg(md5(random()::text), '')"
            inside.execute(
                f"CREATE TABLE ir_attachment AS SELECT n AS id, (SELECT {texts} FROM generate_series(1, 250)"
                " m WHERE n > 0) AS db_datas FROM generate_series(1, 12000) n".encode()
            )
        yield "odoo_prod"
        db.execute("DROP DATABASE odoo_prod WITH (FORCE)")


def picture(pages: Pages, name: str) -> None:
    """Keep what is seen for the documentation, when that is wanted."""
    if PICTURES:
        pages.page.screenshot(path=Path(PICTURES) / name)


def test_link_of_a_run_leads_to_it_through_the_login(desk: Desk, api: Api, database: str) -> None:
    run = desk.run("odoo_db_backup", "--lane", "A", "-p", f"odoo_db={database}")
    [link] = set(re.findall(r"http\S+flow-run/\S+", desk.ops("show", run["id"]).fine()))
    with pages_of(desk, api) as anybody:
        anybody.open(link)
        anybody.log_in()
        anybody.page.wait_for_url(f"**/v2/runs/flow-run/{run['id']}*")
        expect(anybody.page.get_by_text(f"{database} · backup").first).to_be_visible()
        assert anybody.errors == []


def test_page_of_a_backup_shows_its_steps_its_result_and_how_to_restore_it(
    desk: Desk, pages: Pages, database: str
) -> None:
    run = desk.run("odoo_db_backup", "--lane", "A", "-p", f"odoo_db={database}")
    pages.open_run(run["id"])
    for said in ("step 4 pg_dump", "step 7 verify", "succeeded"):
        expect(pages.page.get_by_text(said).first).to_be_visible()
    pages.page.locator("canvas").first.wait_for()
    picture(pages, "finished-run.png")
    pages.open_run(run["id"], tab="Artifacts")
    key = f"backup-{database.replace('_', '-')}"
    pages.page.get_by_text(key, exact=True).first.click()
    restores = f"ops run odoo_db_restore -p backup={run['result']['file'].rpartition('/')[2]}"
    expect(pages.page.get_by_text(restores).first).to_be_visible()
    picture(pages, "artifact.png")


def test_page_of_a_running_backup_shows_how_far_it_is(desk: Desk, pages: Pages, production: str) -> None:
    with held_backup(desk, production) as run:  # it would be over before somebody has looked
        pages.open_run(run)
        expect(pages.page.get_by_text("Step 4 pg_dump begins").first).to_be_visible()
        expect(pages.page.get_by_text("Running").first).to_be_visible()
        pages.page.locator("canvas").first.wait_for()
        picture(pages, "running-run.png")
        pages.open_run(run, tab="Artifacts")
        expect(pages.page.get_by_text("backup-odoo-prod--progress").first).to_be_visible()
        expect(pages.page.get_by_text("Step 4 pg_dump: ").first).to_be_visible()
    assert desk.ops("cancel", run, "--wait").code == 0


@contextmanager
def held_backup(desk: Desk, production: str) -> Iterator[str]:
    """A backup whose pg_dump is stopped after it wrote something. One that was met too early or too late is let go, and
    another is started."""
    for number in range(8):
        run = str(desk.json("run", "odoo_db_backup", "--lane", "A", "-p", f"odoo_db={production}")["id"])
        deadline = time.monotonic() + 15
        while not (dumps := dumping(run)) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.05 * number)
        with stopped(dumps):
            if dumps and shows_progress(desk, run):
                yield run
                return
    raise AssertionError("no pg_dump was seen at work")


def shows_progress(desk: Desk, run: str) -> bool:
    """Whether it is known within seconds how far its dump is."""
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        steps = {step["name"]: step for step in desk.json("show", run)["steps"]}
        if steps.get("pg_dump", {}).get("progress"):
            return True
    return False


def dumping(run_id: str) -> list[int]:
    """The pg_dump of a run."""
    return [pid for pid, argv in processes_with(f"OPS_RUN_ID={run_id}").items() if "--format=custom" in argv]


def test_page_of_a_failed_run_says_why_without_our_code(
    desk: Desk, api: Api, pages: Pages, store: Callable[..., str]
) -> None:
    block = store("breaks", "echo all fine so far", "echo the disk is on fire >&2; exit 7")
    run = api.wait_terminal(api.start("stored_command/stored_command-lane-b", block=block))
    pages.open_run(run["id"])
    for said in ("all fine so far", "the disk is on fire", "exit code 7"):
        expect(pages.page.get_by_text(said).first).to_be_visible()
    text = pages.text()
    assert "Traceback" not in text
    assert ".py" not in text


def test_list_of_deployments_names_each_once_in_order(desk: Desk, pages: Pages) -> None:
    pages.open("/v2/deployments?limit=100")
    links = pages.page.locator("a[href*='/deployments/deployment/']")
    links.first.wait_for()
    names = [name for name in links.all_inner_texts() if name]
    assert len(names) == len(set(names))
    assert names == sorted(names)
    assert {f"odoo_db_backup-lane-{lane}" for lane in "abcd"} | {"nightly-backup"} <= set(names)
    picture(pages, "prefect-ui.png")


def test_approval_is_asked_on_the_page_and_given_in_its_dialog(desk: Desk, pages: Pages) -> None:
    template = Path(desk.settings["OPS_TEMPLATES"]) / "ask_first.yaml"
    template.parent.mkdir(exist_ok=True)
    template.write_text(ASKS)
    desk.ops("deploy", timeout=300).fine()
    run = desk.json("run", "ask_first", "--lane", "D", "-p", "service=odoo")
    wait_for(lambda: desk.json("show", run["id"])["waits_for_approval"], seconds=60, what="it asks")
    pages.open_run(run["id"])
    expect(pages.page.get_by_text("Restart odoo in production?").first).to_be_visible()
    pages.page.get_by_role("button", name="Open menu").first.click()
    pages.page.get_by_role("menuitem", name="Resume").click()
    dialog = pages.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Restart odoo in production?")
    picture(pages, "approval.png")
    dialog.get_by_role("button", name=re.compile("Resume|Submit")).click()
    shown = wait_for(
        lambda: (seen := desk.json("show", run["id"])) and seen["status"] == "succeeded" and seen,
        seconds=60,
        what="it goes on",
    )
    assert any("approved in Prefect" in event["message"] for event in shown["events"]), shown["events"]
