"""What a rendered site of nginx's passes to the room, and what its checks refuse."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deployments.hosting.nginx import NGINX, NginxValues, check_gixy, check_nginx
from deployments.hosting.template import Outcome, render
from tests.support.certificates import make_certificate
from tests.support.children import free_port
from tests.support.http_recorder import Recorder, recording
from tests.support.programs import program
from tests.support.tiers import in_gate
from tests.support.web_server import NAME, ask, nginx, site_on_loopback


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recording() as found:
        yield found


def post(folder: Path, recorder: Recorder, path: str = "/x", *, below: str = "", **headers: str) -> httpx.Response:
    """Post to the recorder through nginx."""
    port = free_port()
    site = site_on_loopback(port=port, plain_port=free_port(), path=below, prefect_port=recorder.port)
    with nginx(folder, site):
        return ask(port, path, method="POST", **headers)


def test_login_arrives_once_and_as_it_was_sent(tmp_path: Path, recorder: Recorder) -> None:
    assert post(tmp_path, recorder, Authorization="Basic b3BzOnNlY3JldA==").status_code == 200
    assert recorder.requests[0].headers.get_all("Authorization") == ["Basic b3BzOnNlY3JldA=="]


def test_address_that_a_client_claims_does_not_arrive(tmp_path: Path, recorder: Recorder) -> None:
    """The room counts wrong passwords by it: a client that chose it would have no limit of its own."""
    post(tmp_path, recorder, **{"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http"})
    headers = recorder.requests[0].headers
    assert headers.get_all("X-Forwarded-For") == ["127.0.0.1"]
    assert headers.get_all("X-Forwarded-Proto") == ["https"]


def test_connection_is_upgraded_only_when_the_client_wants_it(tmp_path: Path, recorder: Recorder) -> None:
    post(tmp_path, recorder)
    assert recorder.requests[0].headers["Connection"] is None


@pytest.mark.gate
def test_below_a_path_nothing_else_is_served(tmp_path: Path, recorder: Recorder) -> None:
    assert post(tmp_path, recorder, "/x", below="/room").status_code == 404
    assert recorder.requests == []


def test_plain_http_is_led_to_tls_but_for_the_answers_of_certbot(tmp_path: Path, recorder: Recorder) -> None:
    port, plain = free_port(), free_port()
    with tempfile.TemporaryDirectory() as root:
        challenge = Path(root) / ".well-known/acme-challenge"
        challenge.mkdir(parents=True)
        (challenge / "token").write_text("answer")
        Path(root).chmod(0o755)  # nginx of root serves files as another user
        site = site_on_loopback(port=port, plain_port=plain, prefect_port=recorder.port, acme_root=root)
        with (
            nginx(tmp_path, site),
            httpx.Client(base_url=f"http://127.0.0.1:{plain}", headers={"Host": NAME}, trust_env=False) as client,
        ):
            there = client.get("/.well-known/acme-challenge/token")
            led = client.get("/runs?x=1")
    assert there.text == "answer"
    assert (led.status_code, led.headers["Location"]) == (301, f"https://{NAME}:{port}/runs?x=1")


@pytest.mark.parametrize(("name", "status"), [("inner.example.org", 200), ("other.example.org", 502)])
def test_upstream_with_tls_must_have_its_name(tmp_path: Path, name: str, status: int) -> None:
    """nginx asks for the name in `proxy_ssl_name`, and verifies it: another name is not the room."""
    certificate = make_certificate(tmp_path, name=f"DNS:{name}")
    with recording(certificate) as upstream:
        port = free_port()
        site = site_on_loopback(
            port=port,
            plain_port=free_port(),
            upstream=f"https://inner.example.org:{upstream.port}",
            upstream_ca=str(certificate[0]),
        )
        assert "resolver 127.0.0.53" in site
        site = site.replace("$ops_upstream inner.example.org", "$ops_upstream 127.0.0.1")  # there is no DNS here
        with nginx(tmp_path, site):
            assert ask(port, "/x", method="POST").status_code == status
        assert len(upstream.requests) == (status == 200)


GOOD = {"server_url": f"https://{NAME}"}
SITES = {
    "at its root": GOOD,
    "below a path, for some networks": GOOD | {"server_url": f"https://{NAME}:8443/room", "allow_from": "10.0.0.0/8"},
    "with an upstream elsewhere": GOOD | {"upstream": "https://inner.example.org:8443"},
}


@pytest.mark.parametrize("values", [GOOD, *in_gate(list(SITES.values())[1:])], ids=list(SITES))
def test_checks_pass_what_is_rendered(values: dict[str, object]) -> None:
    program("nginx", package="nginx-light")
    files = render(NGINX, NginxValues.model_validate(values))
    assert [(one.outcome, one.said) for one in (check_nginx(files),)] == [(Outcome.PASSED, "")]
    assert check_gixy(files).outcome is Outcome.PASSED


def test_nginx_refuses_a_broken_site() -> None:
    program("nginx", package="nginx-light")
    (site,) = render(NGINX, NginxValues.model_validate(GOOD)).values()
    verdict = check_nginx(
        {"site": site.replace("proxy_pass http://127.0.0.1:4200;", "proxy_pass http://127.0.0.1:4200")}
    )
    assert verdict.outcome is Outcome.REFUSED
    assert "invalid" in verdict.said


def test_nginx_that_only_warns_counts_as_refusing() -> None:
    program("nginx", package="nginx-light")
    (site,) = render(NGINX, NginxValues.model_validate(GOOD)).values()
    verdict = check_nginx({"site": site + "\nserver { listen 80; server_name ops.example.org; }\n"})
    assert verdict.outcome is Outcome.REFUSED
    assert "conflicting server name" in verdict.said


def test_gixy_refuses_a_redirect_past_an_access_list() -> None:
    (site,) = render(NGINX, NginxValues.model_validate(GOOD)).values()
    unsafe = site.replace("server_tokens off;", "deny all;")
    verdict = check_gixy({"site": unsafe})
    assert verdict.outcome is Outcome.REFUSED
    assert "return_bypasses_allow_deny" in verdict.said
