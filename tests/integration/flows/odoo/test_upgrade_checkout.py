"""The checkout of an upgrade: which commit, its submodules, and what somebody changed there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from flows import odoo_module_upgrade as module
from flows.odoo.site import AT
from opsdb.errors import PreflightError, StepFailedError
from opsdb.settings import load_settings
from tests.integration.flows.odoo_sites import COMPOSE, Site, git
from tests.support.stand_ins.odoo import write_module
from tests.support.tiers import in_soak


@pytest.mark.parametrize("kind", ["tag", *in_soak(["branch", "commit"])])
def test_wanted_ref_is_checked_out_exactly(site: Site, kind: str) -> None:
    wanted = site.commit("wanted")
    git(site.work, "tag", "v2")
    git(site.work, "push", "-q", "origin", "v2", "HEAD:refs/heads/release/18.2")
    site.commit("later, on main")
    site.upgrade(git_ref={"branch": "release/18.2", "tag": "v2", "commit": wanted}[kind])
    assert git(site.checkout, "rev-parse", "HEAD") == wanted


def test_local_branch_does_not_stand_in_for_the_one_of_origin_and_keeps_its_commits(site: Site) -> None:
    (site.checkout / "own").write_text("mine")
    git(site.checkout, "add", "-A")
    git(site.checkout, "commit", "-qm", "local")
    own = git(site.checkout, "rev-parse", "HEAD")
    branch = git(site.checkout, "rev-parse", "--abbrev-ref", "HEAD")
    commit = site.commit("second")
    site.upgrade(git_ref=branch)
    assert git(site.checkout, "rev-parse", "HEAD") == commit
    assert git(site.checkout, "rev-parse", branch) == own


def change_by_hand(site: Site, how: str) -> None:
    """Leave the checkout as somebody does who was called away."""
    (site.checkout / COMPOSE).write_text("changed by hand\n")
    if how == "merge":
        git(site.checkout, "commit", "-qam", "ours")
        ours = git(site.checkout, "rev-parse", "HEAD")
        git(site.checkout, "checkout", "-q", "--detach", "HEAD~1")
        git(site.checkout, "merge", "-q", "--no-ff", "--no-commit", "-s", "ours", ours)


@pytest.mark.parametrize(("how", "named"), [("file", f" M {COMPOSE}"), ("merge", "unfinished: MERGE_HEAD")])
def test_changed_checkout_is_refused_and_kept_before_anything_is_asked(site: Site, how: str, named: str) -> None:
    change_by_hand(site, how)
    site.commit("second")
    with pytest.raises(
        PreflightError, match=rf"{site.checkout} was changed by hand: {named.strip()}; commit or stash it"
    ):
        site.upgrade()
    assert site.daemon.calls == []
    if how == "file":
        assert (site.checkout / COMPOSE).read_text() == "changed by hand\n"
    else:
        assert (site.checkout / ".git" / "MERGE_HEAD").exists()


def test_checkout_that_is_changed_after_the_preflight_is_refused_and_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "check_checkout", lambda _host: None)
    change_by_hand(site, "file")
    site.commit("second")
    with pytest.raises(StepFailedError, match="changed by hand: commit or stash"):
        site.upgrade()
    assert (site.checkout / COMPOSE).read_text() == "changed by hand\n"
    assert site.upgrades() == []


@pytest.mark.gate
def test_tag_that_was_moved_at_origin_is_checked_out_where_it_is_now(site: Site) -> None:
    git(site.work, "tag", "stable")
    git(site.work, "push", "-q", "origin", "stable")
    site.upgrade(git_ref="stable")
    wanted = site.commit("second")
    git(site.work, "tag", "--force", "stable")
    git(site.work, "push", "-q", "--force", "origin", "stable")
    assert site.upgrade(git_ref="stable")["commit"] == wanted
    told = [log.read_text() for log in load_settings().logs.rglob("*-pull_latest.log")]
    assert any("[tag update]" in text for text in told), told


def test_lock_of_a_git_that_nobody_knows_is_named_and_stays(site: Site) -> None:
    lock = site.checkout / ".git" / "index.lock"
    lock.touch()
    with pytest.raises(PreflightError, match=r"index\.lock: git runs there, or was killed there"):
        site.upgrade()
    assert lock.exists()


def test_untracked_file_in_the_way_of_the_commit_is_kept_and_named(site: Site) -> None:
    first = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second", sale="18.0.2")
    mine = site.checkout / "addons" / "sale" / "__manifest__.py"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(StepFailedError, match=r"untracked working tree files would be overwritten(.|\n)*addons/sale"):
        site.upgrade()
    assert (mine.read_text(), git(site.checkout, "rev-parse", "HEAD")) == ("mine", first)
    mine.unlink()
    assert site.upgrade()["commit_before"] == first


@pytest.mark.gate
def test_clone_of_one_branch_or_without_history_says_how_it_gets_the_rest(site: Site, tmp_path: Path) -> None:
    first = git(site.work, "rev-parse", "HEAD")
    wanted = site.commit("second")
    git(site.work, "push", "-q", "origin", "HEAD:refs/heads/release/18.2")
    shutil.rmtree(site.checkout)
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{tmp_path}/origin", str(site.checkout))
    with pytest.raises(StepFailedError, match=r"does not fetch it\. Hint: git remote set-branches origin"):
        site.upgrade(git_ref="release/18.2")
    git(site.checkout, "remote", "set-branches", "origin", "*")
    assert site.upgrade(git_ref="release/18.2")["commit"] == wanted
    with pytest.raises(StepFailedError, match=r"shallow clone has\. Hint: git fetch --unshallow"):
        site.upgrade(git_ref=first)


@pytest.fixture
def library(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that the site's has as a submodule, with a submodule of its own. Returns the folder to work in."""
    # submodules from a folder: git refuses them unless its user allows it
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / ".gitconfig").write_text('[protocol "file"]\n\tallow = always\n')
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    made: list[Path] = []
    for name in ("deep", "library"):
        folder = tmp_path / name
        folder.mkdir()
        git(folder, "init", "-q")
        write_module(folder, f"of_{name}", "18.0.1")
        if made:
            git(folder, "submodule", "--quiet", "add", str(made[0]), "deep")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", "first")
        made.append(folder)
    git(site.work, "submodule", "--quiet", "add", str(made[1]), "addons/library")
    site.commit("with a library")
    site.upgrade()
    return made[1]


def test_submodules_are_checked_out_with_the_commit_and_back_with_that_of_before(site: Site, library: Path) -> None:
    there = site.checkout / "addons" / "library"
    assert (there / "deep" / "of_deep" / "__manifest__.py").is_file(), "new ones as well"
    first = git(site.checkout, "rev-parse", "HEAD")
    write_module(library, "of_library", "18.0.2")
    git(library, "commit", "-qam", "second")
    git(site.work / "addons" / "library", "pull", "-q")
    second = site.commit("a newer library")
    site.daemon.missing_after = site.runs + 1
    with pytest.raises(StepFailedError, match="pull access denied"):
        site.upgrade()
    assert (git(site.checkout, "rev-parse", "HEAD"), git(site.checkout, "status", "--porcelain")) == (first, "")
    assert "18.0.1" in (there / "of_library" / "__manifest__.py").read_text()
    site.daemon.missing_after = None
    site.upgrade()
    assert (git(site.checkout, "rev-parse", "HEAD"), git(site.checkout, "status", "--porcelain")) == (second, "")
    assert "18.0.2" in (there / "of_library" / "__manifest__.py").read_text()


def test_submodules_go_back_with_the_code_where_odoo_was_stopped(
    site: Site, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = git(site.checkout, "rev-parse", "HEAD")
    write_module(library, "of_library", "18.0.2")
    git(library, "commit", "-qam", "second")
    git(site.work / "addons" / "library", "pull", "-q")
    site.commit("a newer library")

    def refuse(_database: str) -> None:
        raise StepFailedError("somebody works there")

    monkeypatch.setattr(module, "_check_alone", refuse)
    with pytest.raises(StepFailedError, match=f"runs again, with commit {first[:12]} .the previous one"):
        site.upgrade()
    assert (git(site.checkout, "rev-parse", "HEAD"), git(site.checkout, "status", "--porcelain")) == (first, "")
    there = site.checkout / "addons" / "library"
    assert "18.0.1" in (there / "of_library" / "__manifest__.py").read_text()


def test_submodule_that_cannot_be_had_leaves_the_checkout_as_it_was(site: Site, library: Path) -> None:
    before = git(site.checkout, "rev-parse", "HEAD")
    there = site.work / "addons" / "library"
    write_module(there, "of_library", "18.0.3")
    git(there, "commit", "-qam", "that nobody pushed")
    site.commit("it names it")
    with pytest.raises(StepFailedError, match="pull_latest failed"):
        site.upgrade()
    assert (git(site.checkout, "rev-parse", "HEAD"), git(site.checkout, "status", "--porcelain")) == (before, "")


def test_changed_file_of_a_submodule_is_refused(site: Site, library: Path) -> None:
    assert library
    write_module(site.checkout / "addons" / "library" / "deep", "of_deep", "18.0.9")
    with pytest.raises(PreflightError, match=r"changed by hand: addons/library/deep: ?M of_deep/__manifest__\.py"):
        site.upgrade()


def test_submodule_that_somebody_advanced_is_refused_by_name_and_stays(site: Site, library: Path) -> None:
    there = site.checkout / "addons" / "library"
    write_module(library, "of_library", "18.0.2")
    git(library, "commit", "-qam", "second")
    git(there, "pull", "-q", "origin", "HEAD")
    advanced = git(there, "rev-parse", "HEAD")
    with pytest.raises(PreflightError, match=rf"submodule addons/library is at {advanced[:12]}, and the commit here"):
        site.upgrade()
    assert git(there, "rev-parse", "HEAD") == advanced


def test_gitlink_without_gitmodules_and_submodule_that_nobody_initialised_stay_as_they_are(
    site: Site, library: Path
) -> None:
    git(site.work, "clone", "-q", str(library), "orphan")
    git(site.work, "submodule", "--quiet", "add", str(library), "unused")
    site.commit("one that .gitmodules does not name, and one more")
    site.upgrade()
    git(site.checkout, "submodule", "--quiet", "deinit", "--", "unused")
    commit = site.commit("third")
    assert site.upgrade()["commit"] == commit
    assert not list((site.checkout / "unused").iterdir())
    assert not list((site.checkout / "orphan").iterdir())


def test_checkout_that_was_killed_during_its_submodules_is_not_the_commit_of_before(site: Site, library: Path) -> None:
    before = git(site.checkout, "rev-parse", "HEAD")
    write_module(library, "of_library", "18.0.2")
    git(library, "commit", "-qam", "second")
    git(site.work / "addons" / "library", "pull", "-q")
    second = site.commit("a newer library")
    git(site.checkout, "fetch", "-q")
    killed = AT.replace("renew() {", "renew() {\n  kill -KILL $BASHPID")
    subprocess.run(["bash", "-c", f'{killed}\nat "$1"', "-", second], cwd=site.checkout, check=False)
    assert git(site.checkout, "rev-parse", "HEAD") == second
    done = site.upgrade()
    assert (done["commit_before"], done["commit"]) == (before, second)
    manifest = site.checkout / "addons" / "library" / "of_library" / "__manifest__.py"
    assert "18.0.2" in manifest.read_text()
    assert not (site.checkout / ".git" / "ops-commit-of-before").exists()
