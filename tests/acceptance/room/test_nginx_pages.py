"""The pages of a room behind a real nginx with TLS, as `ops render nginx` makes its site, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from deployments.room.postgres import EmbeddedPostgres
from tests.acceptance.room.api import Api, auth_string
from tests.acceptance.room.conftest import pause_schedules
from tests.acceptance.room.desk import Desk
from tests.acceptance.room.pages import Pages
from tests.support.browser import browser_context
from tests.support.children import free_port
from tests.support.cluster import copy_cluster
from tests.support.waiting import wait_for
from tests.support.web_server import NAME, nginx, site_on_loopback

SLOW = """
kind: slow
description: Takes its time.
steps:
  - {name: wait, command: sleep 300, timeout: 400}
"""

pytestmark = pytest.mark.gate


# The pages themselves ask again and again; Prefect's other clients, and its older pages, listen.
LISTENS = """([url, token]) => new Promise((done, failed) => {
  const socket = new WebSocket(url, "prefect");
  socket.onopen = () => socket.send(JSON.stringify({type: "auth", token}));
  socket.onmessage = (message) => { done(JSON.parse(message.data).type); socket.close(); };
  socket.onerror = () => failed(new Error("not opened"));
})"""


def origin_of(url: str) -> str:
    """The scheme, with that of the web for a WebSocket's, the host and the port."""
    parts = urlsplit(url)
    return f"{parts.scheme.replace('ws', 'http')}://{parts.netloc}"


@pytest.fixture(params=["", "/room"], ids=["at its root", "below a path"])
def pages(
    request: pytest.FixtureRequest, own_folder: Path, tmp_path: Path, shared_folder: Path
) -> Iterator[tuple[Pages, Desk]]:
    """A tab of a browser that reaches the room through nginx, and the room."""
    path, port = request.param, free_port()
    origin = f"https://{NAME}:{port}{path}"
    desk = Desk(own_folder / ".ops", {"OPS_SERVER_URL": origin, "OPS_TEMPLATES": str(own_folder / "templates")})
    desk.home.mkdir(mode=0o700)
    (own_folder / "templates").mkdir()
    (own_folder / "templates" / "slow.yaml").write_text(SLOW)
    copy_cluster(shared_folder, EmbeddedPostgres(desk.home / "postgres"))
    site = site_on_loopback(port=port, plain_port=free_port(), path=path, prefect_port=desk.ports[0])
    try:
        desk.start()
        api = Api(desk)
        pause_schedules(api)
        with nginx(tmp_path, site), browser_context(site=NAME) as context:
            yield Pages(context.new_page(), desk, api, origin=origin), desk
    finally:
        desk.stop()


def test_operator_logs_in_starts_a_run_and_cancels_it_and_nothing_is_asked_of_another_origin(
    pages: tuple[Pages, Desk],
) -> None:
    tab, desk = pages
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.page.on("websocket", lambda socket: asked.append(socket.url))
    tab.open("/")
    tab.log_in()
    tab.open_form("slow/lane-d")
    tab.page.get_by_role("button", name="Submit").click()
    [run] = wait_for(lambda: desk.json("runs", "--kind", "slow"), seconds=60, what="the run is recorded")
    wait_for(lambda: desk.json("show", run["id"])["status"] == "running", seconds=60, what="it runs")
    tab.open_run(run["id"])
    expect(tab.page.get_by_text("Running").first).to_be_visible()
    tab.page.get_by_role("button", name="Open menu").first.click()
    tab.page.get_by_role("menuitem", name="Cancel").click()
    tab.page.get_by_role("alertdialog").get_by_role("button", name="Cancel Flow Run").click()
    expect(tab.page.get_by_text("Cancelled").first).to_be_visible()
    wait_for(lambda: desk.json("show", run["id"])["status"] == "cancelled", seconds=60, what="it is cancelled")
    listening = f"{tab.origin.replace('https', 'wss')}/api/events/out"
    assert tab.page.evaluate(LISTENS, [listening, auth_string(desk)]) == "auth_success"
    assert listening in asked
    assert {origin_of(url) for url in asked if not url.startswith(("data:", "blob:"))} == {origin_of(tab.origin)}
    assert tab.errors == []
