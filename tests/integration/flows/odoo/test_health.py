"""When an Odoo counts as healthy: its server answers, PostgreSQL answers that, and this database is served."""

from __future__ import annotations

import os
import subprocess

import pytest

from flows.odoo.health import wait_healthy
from tests.integration.flows.odoo_sites import Site


def ask(site: Site, *, database: str | None = None, url: str | None = None) -> subprocess.CompletedProcess[str]:
    """One look, that waits for nothing."""
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{wait_healthy('$URL')}"],
        env={"PATH": os.environ["PATH"], "URL": url or site.health, "ODOO_DB": database or site.database, "LIMIT": "0"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_odoo_is_healthy_when_it_serves_the_database_alone_or_among_others(site: Site) -> None:
    for alone in (True, False):
        site.odoo.alone = alone
        done = ask(site)
        assert (done.returncode, done.stderr) == (0, ""), done
    assert site.odoo.asked[:2] == ["/web/health?db_server_status=1", f"/web/login?db={site.database}"]


def test_postgresql_that_is_away_is_no_health(site: Site) -> None:
    site.odoo.database_away = True
    done = ask(site)
    assert done.returncode == 69
    assert "/web/health?db_server_status=1 did not answer well within 0 s: it answered with 500" in done.stderr


def test_redirect_to_the_list_of_databases_is_no_health(site: Site) -> None:
    done = ask(site, database="nope")
    assert done.returncode == 69
    assert "it led to" in done.stderr
    assert "/web/database/selector: this Odoo does not serve the database nope there" in done.stderr


def test_slash_at_the_end_of_the_address_changes_nothing(site: Site) -> None:
    assert ask(site, url=f"{site.health}/").returncode == 0
    assert site.odoo.asked == ["/web/health?db_server_status=1", f"/web/login?db={site.database}"]


def test_address_of_the_sites_own_is_asked_as_it_is_and_must_not_lead_elsewhere(site: Site) -> None:
    assert ask(site, url=site.health.replace("/web/health", "/deep/er")).returncode == 0
    assert site.odoo.asked == ["/deep/er", f"/web/login?db={site.database}"]
    assert "/moved did not answer well within 0 s: it answered with 302" in (
        ask(site, url=site.health.replace("/web/health", "/moved")).stderr
    )


@pytest.mark.parametrize("wrong", ["stopped", "no PostgreSQL", "another database", "list of databases elsewhere"])
def test_address_that_always_says_200_does_not_hide_that_the_database_is_not_served(site: Site, wrong: str) -> None:
    url = site.health.replace("/web/health", "/always")
    assert ask(site, url=url).returncode == 0
    if wrong == "stopped":
        site.daemon.stop_service()
    elif wrong == "no PostgreSQL":
        site.odoo.database_away = True
    elif wrong == "list of databases elsewhere":
        site.odoo.leads = url.replace("127.0.0.1", "localhost").replace("/always", "/web/database/selector")
    done = ask(site, url=url, database="nope" if wrong == "another database" else None)
    assert done.returncode == 69
    assert "/web/login?db=" in done.stderr


def test_login_page_may_lead_to_a_provider_of_identities_where_the_site_has_an_address_of_its_own(site: Site) -> None:
    own = site.health.replace("/web/health", "/always")
    for place, code in ((own.replace("127.0.0.1", "localhost"), 0), (own, 69)):
        site.odoo.leads = place
        assert ask(site, url=own).returncode == code
        assert ask(site).returncode == 69


def test_address_of_a_program_beside_odoo_has_no_login_page_and_is_asked_alone(site: Site) -> None:
    site.odoo.only_health = True
    assert ask(site, url=site.health.replace("/web/health", "/always")).returncode == 0
    assert ask(site).returncode == 69
    site.odoo.only_health, site.odoo.leads = False, "/nowhere"  # whose 404 is not that of the login page
    site.odoo.database_away = True
    assert ask(site, url=site.health.replace("/web/health", "/always")).returncode == 69


def test_server_that_is_stopped_is_no_health_and_curl_says_why(site: Site) -> None:
    site.daemon.stop_service()
    assert "it answered with 502" in ask(site).stderr
    assert "onnect" in ask(site, url="http://127.0.0.1:9/web/health").stderr
