"""The Prefect UI of a room as a person at a browser has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Locator, Page

from tests.acceptance.room.api import Api, auth_string
from tests.acceptance.room.desk import Desk
from tests.support.browser import browser_context


class Pages:
    """One tab. `errors` are those of its code, `origin` where the room is for this browser."""

    def __init__(self, page: Page, desk: Desk, api: Api, *, origin: str = "") -> None:
        self.page = page
        self.origin = origin or f"http://127.0.0.1:{desk.ports[0]}"
        self._desk = desk
        self._api = api
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, path: str) -> None:
        """Go to a path of the UI, or to a whole address."""
        self.page.goto(path if path.startswith("http") else f"{self.origin}{path}")

    def log_in(self) -> None:
        """Type the password that the page asks for."""
        password = self.page.get_by_placeholder("admin:pass")
        password.fill(auth_string(self._desk))
        password.press("Enter")
        password.wait_for(state="detached")

    def open_run(self, run_id: str, tab: str = "Logs") -> None:
        """Go to the page of a run."""
        self.open(f"/v2/runs/flow-run/{run_id}?tab={tab}")

    def open_form(self, deployment: str) -> None:
        """Go to the form by which a deployment is started with parameters."""
        self.open(f"/v2/deployments/deployment/{self._api.deployment(deployment)['id']}/run")
        self.page.get_by_role("button", name="Submit").wait_for()

    def field(self, name: str) -> Locator:
        """The input of a parameter in a form."""
        return self.page.get_by_label(re.compile(rf"^{re.escape(name)}\b"))

    def text(self) -> str:
        """What a person can read."""
        return self.page.locator("body").inner_text()


@contextmanager
def pages_of(desk: Desk, api: Api) -> Iterator[Pages]:
    """A tab of a browser in which nobody is logged in."""
    with browser_context() as context:
        yield Pages(context.new_page(), desk, api)
