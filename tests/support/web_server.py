"""A real nginx on loopback, with a site that `ops render nginx` makes."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from deployments.hosting.nginx import NGINX, NginxValues, server_configuration
from deployments.hosting.template import render
from tests.support.programs import program

NAME = "ops.example.org"


def site_on_loopback(*, port: int, plain_port: int, path: str = "", **values: object) -> str:
    """The rendered site, on loopback alone and with `plain_port` in place of 80."""
    values = {"server_url": f"https://{NAME}:{port}{path}", **values}
    (site,) = render(NGINX, NginxValues.model_validate(values)).values()
    site = re.sub(r" *listen \[::\][^\n]*\n", "", site)
    return site.replace("listen 80;", f"listen 127.0.0.1:{plain_port};").replace(
        f"listen {port} ssl;", f"listen 127.0.0.1:{port} ssl;"
    )


@contextmanager
def nginx(folder: Path, site: str) -> Iterator[None]:
    """Serve a site out of the folder, with a certificate that nobody trusts."""
    (folder / "conf").write_text(server_configuration(site, folder))
    command = [program("nginx", package="nginx-light"), "-c", str(folder / "conf"), "-e", str(folder / "log")]
    with subprocess.Popen(command) as process:
        try:
            until = time.monotonic() + 20
            while not (folder / "pid").exists() and time.monotonic() < until:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.02)
            yield
        finally:
            process.terminate()


def ask(port: int, path: str, *, host: str = NAME, method: str = "GET", **headers: str) -> httpx.Response:
    """Ask the site over TLS; no redirect is followed."""
    headers = {"Host": host, **headers}
    return httpx.request(
        method,
        f"https://127.0.0.1:{port}{path}",
        headers=headers,
        timeout=20,
        trust_env=False,
        verify=False,  # noqa: S501  # the certificate is nobody's
    )
