"""A checkout that the room was killed in, or left at another commit than the one that the database belongs to."""

from __future__ import annotations

import subprocess

import pytest

from flows.engine.dry_run import dry_run
from flows.odoo.broken_upgrade import CODE_BACK
from flows.odoo.site import AT
from flows.odoo_module_upgrade import odoo_module_upgrade
from opsdb.errors import PreflightError, StepFailedError
from opsdb.settings import load_settings
from tests.integration.flows.odoo_sites import Site, git


def check_out_as_a_killed_upgrade(site: Site, commit: str) -> subprocess.CompletedProcess[str]:
    """Check the commit out as an upgrade does whose process is killed right after."""
    git(site.checkout, "fetch", "-q")
    words = ["bash", "-c", f'{AT}\nat "$1"', "-", commit]
    return subprocess.run(words, cwd=site.checkout, check=False, capture_output=True, text=True)


def test_commit_of_before_outlives_an_upgrade_that_was_killed_before_it_touched_a_module(site: Site) -> None:
    first = git(site.checkout, "rev-parse", "HEAD")
    second = site.commit("second")
    assert check_out_as_a_killed_upgrade(site, second).returncode == 0
    third = site.commit("third")
    done = site.upgrade()
    assert (done["commit_before"], done["commit"]) == (first, third)
    fourth = site.commit("fourth")
    assert site.upgrade()["commit_before"] == third, "the database belongs to the code from then on"
    assert git(site.checkout, "rev-parse", "HEAD") == fourth


def test_commit_that_somebody_has_checked_out_since_is_the_one_of_before(site: Site) -> None:
    second, third = site.commit("second"), site.commit("third")
    check_out_as_a_killed_upgrade(site, second)
    for commit in (third, second):  # be it there and back
        git(site.checkout, "checkout", "-q", "--detach", commit)
    assert site.upgrade()["commit_before"] == second


def test_commit_that_is_taken_for_the_one_of_before_is_a_warning_that_says_how_to_forget_it(site: Site) -> None:
    """Somebody may have upgraded modules by hand since, and then the database belongs to what is checked out."""
    facts = {"odoo_db": site.database, "modules": ["sale"], "repo_dir": str(site.checkout), "health_url": site.health}
    facts["protect"] = "none"
    assert dry_run(odoo_module_upgrade, facts, settings=load_settings()).warnings == []
    first = git(site.checkout, "rev-parse", "HEAD")
    second = site.commit("second")
    check_out_as_a_killed_upgrade(site, second)
    [warning] = dry_run(odoo_module_upgrade, facts, settings=load_settings()).warnings
    assert warning.startswith(f"{site.checkout} is at {second[:12]} since 20")
    assert f"{site.database} is taken to belong to {first[:12]} still" in warning
    mark = site.checkout / ".git" / "ops-commit-of-before"
    assert f"remove {mark} where Odoo runs" in warning
    mark.unlink()
    assert dry_run(odoo_module_upgrade, facts, settings=load_settings()).warnings == []
    assert site.upgrade()["commit_before"] == second


def kill_git_in_the_middle(site: Site) -> tuple[str, str]:
    """Kill git in its checkout of a commit with many files: those of before and of that commit are returned."""
    names = [f"addons/file{number:02}" for number in range(20)]
    for version in ("one", "two"):
        for name in names[:10] if version == "one" else names:
            (site.work / name).parent.mkdir(exist_ok=True)
            (site.work / name).write_text(f"{version}\n" * 100)
        if version == "two":
            (site.work / ".gitattributes").write_text(f"/{names[15]} filter=deadly\n")
        site.commit(version)
        if version == "one":
            site.upgrade()
    git(site.checkout, "config", "filter.deadly.smudge", "kill -KILL $PPID")
    first = git(site.checkout, "rev-parse", "HEAD")
    second = git(site.work, "rev-parse", "HEAD")
    assert check_out_as_a_killed_upgrade(site, second).returncode == 137
    git(site.checkout, "config", "--unset", "filter.deadly.smudge")
    (site.checkout / names[9]).write_text("two\n" * 10)  # it was being written
    return first, second


def test_checkout_whose_git_was_killed_is_ended_and_is_no_change_by_hand(site: Site) -> None:
    first, second = kill_git_in_the_middle(site)
    assert (site.checkout / ".git" / "index.lock").exists()
    assert git(site.checkout, "rev-parse", "HEAD") == first
    assert git(site.checkout, "status", "--porcelain") != ""
    done = site.upgrade()
    assert (done["commit_before"], done["commit"]) == (first, second)
    assert (git(site.checkout, "rev-parse", "HEAD"), git(site.checkout, "status", "--porcelain")) == (second, "")


@pytest.mark.parametrize("name", ["addons/file09", "addons/file12"])
def test_what_somebody_wrote_over_a_killed_checkout_is_refused_and_kept(site: Site, name: str) -> None:
    kill_git_in_the_middle(site)
    (site.checkout / name).write_text("by hand\n")
    with pytest.raises(PreflightError, match=f"changed by hand: (M|[?][?]) {name}; commit or stash it"):
        site.upgrade()
    done = put_code_back(site)
    assert (done.returncode, "these files are not of that commit" in done.stderr) == (65, True)
    assert (site.checkout / name).read_text() == "by hand\n"


def put_code_back(site: Site) -> subprocess.CompletedProcess[str]:
    words = ["bash", "-euo", "pipefail", "-c", f"export REPO={site.checkout}\n{CODE_BACK}"]
    return subprocess.run(words, check=False, capture_output=True, text=True)


def test_code_of_before_is_back_whole_after_a_killed_checkout(site: Site) -> None:
    first, _ = kill_git_in_the_middle(site)
    assert put_code_back(site).returncode == 0
    assert git(site.checkout, "rev-parse", "HEAD") == first
    assert git(site.checkout, "status", "--porcelain") == "", "nor are files of the other commit left"
    assert not (site.checkout / ".git" / "ops-commit-of-before").exists()


def test_lock_that_a_running_git_may_hold_stays(site: Site) -> None:
    kill_git_in_the_middle(site)
    with subprocess.Popen(["git", "cat-file", "--batch"], cwd=site.checkout, stdin=subprocess.PIPE) as running:
        with pytest.raises(StepFailedError, match=r"git runs in .* and may hold its index"):
            site.upgrade()
        assert running.stdin is not None
        running.stdin.close()
    assert (site.checkout / ".git" / "index.lock").exists()
