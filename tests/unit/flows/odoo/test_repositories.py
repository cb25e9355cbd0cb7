"""Which repositories OPS_ALLOWED_REPOSITORIES lets a deployment run code of."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from flows.odoo.parameters import ApprovalMinutes
from flows.odoo.repositories import check_allowed
from opsdb.errors import PreflightError, UsageError
from opsdb.settings import Settings, load_settings

GITHUB = "https://github.com/acme/odoo"


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("", "https://anything.example/at/all"),
        (GITHUB, GITHUB),
        (GITHUB, f"{GITHUB}.git"),
        (f"{GITHUB}.git", GITHUB),
        ("https://GitHub.com/acme/odoo", GITHUB),
        ("https://github.com/acme/", f"{GITHUB}.git"),
        ("https://github.com/acme/", "https://github.com/acme/deep/er"),
        (f"https://git.example/ {GITHUB}\n", GITHUB),
    ],
)
def test_repository_is_allowed(allowed: str, url: str) -> None:
    check_allowed(url, Settings(allowed_repositories=allowed))


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        (GITHUB, f"{GITHUB}-evil"),
        (GITHUB, f"{GITHUB}.git.git"),
        (GITHUB, f"{GITHUB}/below"),
        (GITHUB, "https://github.com/Acme/odoo"),
        (GITHUB, "https://github.com.evil.example/acme/odoo"),
        (GITHUB, "https://evil.example/github.com/acme/odoo"),
        ("https://github.com/acme/", "https://github.com/acme-evil/odoo"),
        ("https://github.com/acme/", "https://github.com/acme"),
    ],
)
def test_repository_is_not_allowed(allowed: str, url: str) -> None:
    with pytest.raises(PreflightError, match=f"{url} is not an allowed repository"):
        check_allowed(url, Settings(allowed_repositories=allowed))


@pytest.mark.parametrize(
    "entry",
    [
        "http://github.com/acme/odoo",
        "git@github.com:acme/odoo",
        "https://user:pa55word@github.com/acme/",
        "https://github.com:8443/acme/",
        "https://github.com",
        "https://github.com/acme/../evil/",
        "https://github.com/acme/%2e%2e/",
        "https://github.com/acme//",
        "https://a.example/x,https://b.example/y",
        "ext::sh",
        "file:///srv/git/",
        "*",
    ],
)
def test_entry_that_names_no_repository_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    monkeypatch.setenv("OPS_ALLOWED_REPOSITORIES", f"{GITHUB} {entry}")
    with pytest.raises(UsageError, match=r"OPS_ALLOWED_REPOSITORIES: .*entry 2") as refused:
        load_settings()
    assert "pa55word" not in str(refused.value)


def test_approval_without_minutes_is_waited_for_an_hour() -> None:
    minutes = TypeAdapter(ApprovalMinutes).validate_python
    assert (minutes(5), minutes(0), minutes(None)) == (5, 60, 60)
