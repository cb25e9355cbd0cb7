"""Why a message did not get through, by real servers: the words are the same whatever library noticed."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from pydantic import SecretStr

from exporter.alerting import mattermost
from exporter.alerting.alerter import send_sign_of_life
from exporter.alerting.authorities import NAMES, trusting
from exporter.alerting.destinations import read_destinations
from opsdb.alerts.outbox import REASONS, Failure
from opsdb.errors import UsageError
from opsdb.settings import Settings
from tests.support.alerts_lab import message
from tests.support.certificates import make_certificate
from tests.support.children import free_port
from tests.support.documents import ROOT
from tests.support.mail_server import MailServer, mailing
from tests.support.mattermost import TOKEN, Mattermost, listening
from tests.support.web_proxy import WebProxy, proxying


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", *NAMES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody trusts, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


def speaking_tls(certificate: tuple[Path, Path]) -> AbstractContextManager[Mattermost]:
    """A server behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return listening(Mattermost(moods=[200]), tls=context)


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[Mattermost]:
    with speaking_tls(certificate) as chat:
        yield chat


@pytest.fixture
def plain() -> Iterator[Mattermost]:
    with listening(Mattermost()) as chat:
        yield chat


def send(url: str, *, home: Path | None = None, ca_file: Path | None = None) -> Failure | None:
    """What becomes of a message to an address."""
    settings = Settings(home=home or Path("/nowhere"), alert_urls=SecretStr(url), alert_ca_file=ca_file)
    [destination] = read_destinations(settings)
    if home is None:
        return destination.send(message("hello"))
    with trusting(settings):
        return destination.send(message("hello"))


def reason(url: str) -> tuple[str, bool]:
    failure = send(url)
    assert failure is not None
    assert failure.reason in REASONS
    return failure.reason, failure.lasting


REFUSALS = [(401, "login"), (403, "configuration"), (302, "redirect")]
# of a webhook of Mattermost's, which the room speaks to itself, and of one of Apprise's hundred
SCHEMES = [("mmost", f"/{TOKEN}"), ("json", f"/hooks/{TOKEN}")]


@pytest.mark.parametrize(("scheme", "path"), SCHEMES)
def test_wrong_certificates_are_told_apart_and_one_setting_trusts_them(
    secure: Mattermost, certificate: tuple[Path, Path], tmp_path: Path, scheme: str, path: str
) -> None:
    url = f"{scheme}s://127.0.0.1:{secure.port}{path}"
    assert reason(url) == ("tls_untrusted", True)
    assert send(url, home=tmp_path) == Failure(reason="tls_untrusted", lasting=True)
    sent = send(url, home=tmp_path, ca_file=certificate[0])
    assert sent is None or (scheme == "json" and sent.http_status == 400)  # it arrived, and is no post of Mattermost's
    assert secure.requests
    foreign = make_certificate(tmp_path, name="DNS:chat.example.org")
    with speaking_tls(foreign) as other:
        failure = send(f"{scheme}s://127.0.0.1:{other.port}{path}", home=tmp_path, ca_file=foreign[0])
    assert failure == Failure(reason="tls_name", lasting=True)


def test_sign_of_life_trusts_the_same_authorities(
    secure: Mattermost, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    url = f"https://127.0.0.1:{secure.port}/api/v4/system/ping"
    assert not send_sign_of_life(url)
    with trusting(Settings(home=tmp_path, alert_ca_file=certificate[0])):
        assert send_sign_of_life(url)


@pytest.mark.parametrize("content", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\nx\n"])
def test_file_without_certificates_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with (
        pytest.raises(UsageError, match=f"OPS_ALERT_CA_FILE: {file}: "),
        trusting(Settings(home=tmp_path, alert_ca_file=file)),
    ):
        pass


@pytest.mark.parametrize(("scheme", "path"), SCHEMES)
def test_way_is_named(plain: Mattermost, secure: Mattermost, scheme: str, path: str) -> None:
    assert reason(f"{scheme}s://127.0.0.1:{plain.port}{path}") == ("no_tls", True)
    assert reason(f"{scheme}://127.0.0.1:{secure.port}{path}")[0] in ("wants_tls", "connection")
    assert reason(f"{scheme}://127.0.0.1:{free_port()}{path}") == ("refused", False)
    assert reason(f"{scheme}://chat.invalid{path}") == ("dns", False)
    plain.moods = ["reset"]
    assert reason(f"{scheme}://127.0.0.1:{plain.port}{path}")[0] == "connection"


@pytest.mark.parametrize(("scheme", "path"), SCHEMES)
def test_silent_server_is_a_timeout(plain: Mattermost, monkeypatch: pytest.MonkeyPatch, scheme: str, path: str) -> None:
    monkeypatch.setattr(mattermost, "EXCHANGE_SECONDS", 0.5)
    plain.moods = ["hang"]
    assert reason(f"{scheme}://127.0.0.1:{plain.port}{path}?rto=0.5&cto=0.5") == ("timeout", False)


@pytest.mark.parametrize(("scheme", "path"), SCHEMES)
@pytest.mark.parametrize(
    "expected",
    [Failure(reason=word, lasting=True, http_status=status) for status, word in REFUSALS]
    + [Failure(reason="rate_limited", http_status=429)]
    + [Failure(reason="server", http_status=status) for status in (408, 500, 503)],
)
def test_status_is_judged_alike(plain: Mattermost, scheme: str, path: str, expected: Failure) -> None:
    plain.moods = [expected.http_status]
    assert send(f"{scheme}://127.0.0.1:{plain.port}{path}") == expected


@pytest.mark.parametrize(
    ("mood", "expected"),
    [("login", ("login", True)), ("user", ("recipient", True)), ("later", ("server", False))],
)
def test_mail_that_is_refused_says_by_whom(
    mood: str, expected: tuple[str, bool], caplog: pytest.LogCaptureFixture
) -> None:
    with mailing(MailServer(mood)) as mail:
        assert reason(mail.url) == expected
        mail.mood = "take"
        assert send(mail.url) is None
    assert len(mail.mails) == 1
    assert "s3cret-password" not in caplog.text


def test_way_of_mail_is_named() -> None:
    with mailing(MailServer("hang")) as mail:
        assert reason(mail.url + "&cto=0.5") == ("timeout", False)
        mail.mood = "take"
        assert reason(mail.url.replace("mailto", "mailtos").replace("insecure", "ssl")) == ("no_tls", True)
        port = mail.port
    assert reason(MailServer(port=port).url)[0] == "refused"
    assert reason(MailServer(port=port).url.replace("smtp=127.0.0.1", "smtp=mail.invalid")) == ("dns", False)


@pytest.mark.parametrize("login", ["", "me:p@ss"])
@pytest.mark.parametrize(("scheme", "path"), SCHEMES)
def test_proxy_of_the_environment_is_used_by_all(
    plain: Mattermost, monkeypatch: pytest.MonkeyPatch, scheme: str, path: str, login: str
) -> None:
    with proxying(WebProxy(login)) as proxy:
        for name in ("HTTPS_PROXY", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy.url.replace("p@ss", "p%40ss"))
        send(f"{scheme}://127.0.0.1:{plain.port}{path}")
        assert (len(plain.requests), len(proxy.asked)) == (1, 1)
        assert send(f"{scheme}s://127.0.0.1:{plain.port}{path}") == Failure(reason="no_tls", lasting=True)
        assert proxy.asked[1] == f"127.0.0.1:{plain.port}"  # through the proxy, to what speaks no TLS
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        send(f"{scheme}://127.0.0.1:{plain.port}{path}")
        assert (len(plain.requests), len(proxy.asked)) == (2, 2)


def test_webhook_arrives_behind_a_proxy_and_tls(
    secure: Mattermost, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxying(WebProxy()) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        url = f"mmosts://127.0.0.1:{secure.port}/{TOKEN}"
        assert send(url, home=tmp_path, ca_file=certificate[0]) is None
    assert (len(proxy.asked), secure.texts) == (1, ["hello"])


@pytest.mark.parametrize(("scheme", "path"), SCHEMES)
def test_proxy_that_does_not_let_through_is_named(
    secure: Mattermost, monkeypatch: pytest.MonkeyPatch, scheme: str, path: str
) -> None:
    url = f"{scheme}s://127.0.0.1:{secure.port}{path}"
    with proxying(WebProxy("me:secret")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert reason(url) == ("proxy", False)
    assert reason(url) == ("proxy", False)  # it is down
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    assert reason(url) == ("proxy", False)


def test_page_of_the_alerts_says_what_to_do_about_each_reason() -> None:
    page = (ROOT / "docs" / "alerts-reference.md").read_text()
    table = page.partition("| `ops alerts` says | do |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {word.replace(" ", "_") for cell in cells for word in re.findall(r"`([a-z ]+)`", cell)}
    assert named - {"destination_removed"} == set(REASONS)
