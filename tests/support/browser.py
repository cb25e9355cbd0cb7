"""A real Chromium without a screen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import BrowserContext, expect, sync_playwright

from tests.support.programs import program

PAGE_SECONDS = 60.0  # on a machine with other work to do


@contextmanager
def browser_context(*, site: str = "") -> Iterator[BrowserContext]:
    """A person's browser, where nobody is logged in yet. A test without Chromium is skipped, but not in CI.

    It looks `site` up on loopback, where a web server stands for that name with a certificate that nobody signed.
    """
    chromium = program("chromium", package="chromium")
    with sync_playwright() as playwright:
        # the sandbox needs rights that root in a container lacks; only the room's own pages are opened
        words = ["--no-sandbox", "--disable-dev-shm-usage"]
        if site:
            words.append(f"--host-resolver-rules=MAP {site} 127.0.0.1")
        browser = playwright.chromium.launch(executable_path=chromium, args=words)
        context = browser.new_context(
            viewport={"width": 1400, "height": 1000},
            timezone_id="UTC",
            locale="en-GB",
            ignore_https_errors=bool(site),
        )
        context.set_default_timeout(PAGE_SECONDS * 1000)
        expect.set_options(timeout=PAGE_SECONDS * 1000)
        try:
            yield context
        finally:
            context.close()
            browser.close()
