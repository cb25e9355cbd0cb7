"""Which certificates are trusted: those of a setting, of the environment and of the system."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import certifi
import pytest

from exporter.alerting.authorities import NAMES, read_authorities, trusting
from opsdb.errors import UsageError
from opsdb.settings import Settings


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def authority() -> str:
    head, sign, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")
    return head[head.index("-----BEGIN") :] + sign + "\n"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_comment_in_other_letters_harms_nothing(tmp_path: Path, authority: str, encoding: str) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(f"# Zertifizierungsstelle für Büros\n{authority}".encode(encoding))
    with trusting(Settings(home=tmp_path / "home", alert_ca_file=file)):
        assert ssl.create_default_context().cert_store_stats()["x509"] > 1
    assert authority in (read_authorities(file) or "")


@pytest.mark.parametrize("name", NAMES)
def test_bundle_of_the_environment_stays_trusted_beside_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: str, name: str
) -> None:
    own, company = tmp_path / "own.pem", tmp_path / "company.pem"
    own.write_text(authority)
    company.write_text(f"# of the company\n{authority}")
    monkeypatch.setenv(name, str(company))
    with trusting(Settings(home=tmp_path / "home", alert_ca_file=own)):
        assert all("# of the company" in Path(os.environ[each]).read_text() for each in NAMES)
    assert os.environ[name] == str(company)


@pytest.mark.parametrize("content", [None, b"", b"\xff\x00", "ü".encode(), b"-----BEGIN CERTIFICATE-----\nx\n"])
def test_file_without_certificates_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=f"OPS_ALERT_CA_FILE: {file}: "):
        read_authorities(file)
