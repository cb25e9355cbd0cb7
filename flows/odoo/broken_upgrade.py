"""An upgrade that ends in the middle: Odoo is ended, its marks are taken back, the service is started again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from blocks.odoo_host import OdooHost
from flows.engine.active_run import current_run
from flows.engine.put_back import BEFORE_THE_FIRST, Account, broken_off, put_back, put_back_shell, put_back_unless_done
from flows.engine.step import StepOutput
from flows.odoo.before import (
    CHECKS_OUT,
    UPGRADES_MODULES,
    has_begun_earlier,
    read_checked_out,
    read_commit_before,
    tell_how_far,
)
from flows.odoo.module_states import MARKS_SECONDS, put_marks_back
from flows.odoo.modules import changed, read_modules
from flows.odoo.service import END, START
from flows.odoo.site import AT, host_env, on_host
from opsdb.errors import StepError, StepFailedError
from opsdb.runs.lookup import short_id

END_SECONDS = 15
CODE_SECONDS = 90  # submodules may have many files; nothing is fetched
CODE_UNDER_ODOO_SECONDS = 60
START_SECONDS = 30
_ENDING_SECONDS = 5  # of a command on another host, for what ends it there
_GRACE_SECONDS = 5  # between TERM and KILL
PUT_BACK_SECONDS = (
    END_SECONDS + max(CODE_SECONDS, MARKS_SECONDS) + START_SECONDS + 3 * (_ENDING_SECONDS + _GRACE_SECONDS)
)
"""What its parts take at most. Who cancels a run waits for so long: see `put_back` in `opsdb/timings.py`."""
CODE_BACK_SECONDS = CODE_UNDER_ODOO_SECONDS + _ENDING_SECONDS + _GRACE_SECONDS
"""What it takes at most where Odoo was not stopped."""
GUARDED = ("stop_odoo", "alone", "upgrade_modules", "check_modules", "rebuild_assets", "start_odoo")
"""The steps in which people and workers are kept out; what they leave half done is put back."""
_SHOWN = 20

# What something else has checked out meanwhile stays. Nothing is fetched: the commit was checked out here before.
CODE_BACK = f"""\
{AT}
cd -- "$REPO"
if before=$(commit_of_before); then at "$before"; fi
echo "now: $(git rev-parse HEAD)"
"""
"""Shell text that checks out the commit that the database belongs to, with the environment `REPO`."""


@dataclass(slots=True)
class Upgrade:
    """An upgrade whose service is stopped: where, what the modules' versions were before, and the commits."""

    database: str
    host: OdooHost
    before: Mapping[str, str | None]
    commit: str
    commit_before: str
    began: bool = False
    """Whether this attempt began to upgrade modules: marks and sessions of Odoo are its own then, and not people's."""
    began_earlier: bool = False
    """Whether an earlier attempt did."""

    @property
    def about(self) -> str:
        """What putting it back does."""
        return (
            f"end Odoo in its container, put back modules of {self.database} that stand `to ...`, or the code, start "
            f"{self.host.service}"
        )

    @property
    def about_code(self) -> str:
        """What putting back the code alone does."""
        return f"check the previous commit out in {self.host.repo_dir}"

    def put_back(self) -> Account:
        """End Odoo in its container, put modules that stand `to ...` back, and start the service again.

        Where no module was touched, the previous code is checked out instead: that of the upgrade needs a database that
        was upgraded. Where one of these fails the next ones are not tried: a web server that finds the marks would
        carry on with the upgrade. Raises StepFailedError that says what is left to do by hand.
        """
        return self._put_modules_back() if self.began else self._put_code_back()

    def put_code_back_under_odoo(self) -> Account:
        """Check the previous commit out again while Odoo still runs. Raises StepFailedError.

        Not where an earlier attempt began to upgrade modules: the database needs the code of the upgrade then.
        """
        retry = f"`ops retry {short_id(current_run().id)}` begins with the first step, once the reason is gone"
        commit = self.commit
        if not self.began_earlier:
            try:
                commit = self._check_out_before(CODE_UNDER_ODOO_SECONDS)
            except StepError as error:
                raise StepFailedError(
                    f"Odoo was not stopped, and the previous commit is not checked out again: {error}\n"
                    f"Hint: {self._by_hand}. Next: {retry}"
                ) from error
        where = f"{self.host.repo_dir} is at {self._named(commit)}"
        return Account(f"Odoo was not stopped, and {where}. Next: {retry}", self._left(commit))

    def _put_code_back(self) -> Account:
        database, name = self.database, short_id(current_run().id)
        self._run("end_odoo", END, END_SECONDS)
        commit = self.commit
        touched = self.began_earlier or changed(
            self.before, read_modules(database, url=current_run().settings.odoo_url)
        )
        if not touched:
            try:
                commit = self._check_out_before(CODE_SECONDS)
            except StepError as error:
                raise StepFailedError(
                    f"{error}\n{self.host.service} is not started: no module of {database} was upgraded, and the code "
                    f"in {self.host.repo_dir} is that of the upgrade, or a part of it. Hint: {self._by_hand}, then "
                    f"docker compose -f {self.host.compose_file} up -d {self.host.service}"
                ) from error
        self._start("No module was touched")
        message = (
            f"no module of {database} was touched by this attempt; {self.host.service} runs again, with commit "
            f"{self._named(commit)}. Next: `ops retry {name}` upgrades again, once the reason is gone"
        )
        return Account(message, self._left(commit))

    def _put_modules_back(self) -> Account:
        run, database = current_run(), self.database
        name = short_id(run.id)
        try:
            self._run("end_odoo", END, END_SECONDS)
            restored = put_marks_back(database, url=run.settings.odoo_url)
        except StepError as error:
            raise StepFailedError(
                f"{error}\n{self.host.service} is not started: it would carry on with what stands `to upgrade` in "
                f"{database}. Hint: `ops retry {name}` puts it back before anything else"
            ) from error
        committed = changed(self.before, restored.modules)
        self._start(f"The modules of {database} are put back")
        versions = [f"{module} {of['before'] or 'new'} to {of['after']}" for module, of in committed.items()]
        marks = [f"{module} ({mark})" for module, mark in restored.marks.items()]
        went_back = f"; put back: {_listed(marks)}" if marks else "; no module was left half way"
        message = (
            f"of the upgrade of {database} was committed: {_listed(versions) or 'no new version'}{went_back}; "
            f"{self.host.service} runs again, with commit {self.commit[:12]} (before: {self.commit_before[:12]}). "
            f"Next: `ops retry {name} --from-failed` upgrades again, once the reason is gone"
        )
        return Account(message, self._left(self.commit) | {"committed": committed, "put_back": restored.marks})

    @property
    def _by_hand(self) -> str:
        before, repo = self.commit_before[:12], self.host.repo_dir
        return f"git checkout --detach {before} in {repo}, then git submodule update --recursive there"

    def _named(self, commit: str) -> str:
        """Says whose commit that is: something else may have checked it out."""
        whose = {self.commit: "the one of the upgrade", self.commit_before: "the previous one"}
        return f"{commit[:12]} ({whose.get(commit, 'something else has checked it out')})"

    def _left(self, commit: str) -> dict[str, Any]:
        return {"committed": {}, "put_back": {}, "commit": commit, "commit_before": self.commit_before}

    def _check_out_before(self, seconds: int) -> str:
        """The commit that is checked out afterwards."""
        said = StepOutput("code_of_before", self._run("code_of_before", CODE_BACK, seconds))
        return said.word("now")

    def _start(self, done: str) -> None:
        try:
            self._run("start_odoo", START, START_SECONDS)
        except StepError as error:
            raise StepFailedError(
                f"{error}\n{done}, but {self.host.service} does not run. Hint: in {self.host.repo_dir}: "
                f"docker compose -f {self.host.compose_file} up -d {self.host.service}"
            ) from error

    def _run(self, name: str, command: str, seconds: int) -> str:
        env = host_env(self.host, {"ODOO_DB": self.database, "RUN": str(current_run().id), "LIMIT": str(seconds)})
        return put_back_shell(name, on_host(self.host, command), env=env, seconds=seconds + _ENDING_SECONDS)


def code_back_unless_done(upgrade: Upgrade) -> AbstractContextManager[None]:
    """Check the previous commit out again unless the block ends well, while Odoo still runs."""
    upgrade.began_earlier = has_begun_earlier()
    return put_back_unless_done(upgrade.put_code_back_under_odoo, about=upgrade.about_code, seconds=CODE_BACK_SECONDS)


def goes_on_with_modules() -> bool:
    """Whether an earlier attempt began to upgrade modules. Where not, none of its steps from here on stands.

    Odoo was started when it ended, and people may have worked: it is stopped and protected again.
    """
    begun = has_begun_earlier()
    if not begun:
        current_run().kept.clear()
    return begun


def end_earlier(database: str, host: OdooHost) -> None:
    """Put back what a killed process of this run left, or what could not be put back then.

    Raises StepFailedError where that fails, since Odoo must not be started by anything that follows; and in an attempt
    of the room's own.
    """
    run, whole = current_run(), True
    by_itself = run.life is not None and run.life.began_again_by_itself
    if (broken := broken_off(block=GUARDED, noted="note_versions", output=CHECKS_OUT)) is not None:
        pulled = StepOutput(CHECKS_OUT, broken.printed)
        versions = (broken.noted or {}).get("versions") or {}
        upgrade = Upgrade(
            database,
            host,
            versions,
            pulled.word("after"),
            read_commit_before() or pulled.word("before"),
            began=broken.step in GUARDED[GUARDED.index(UPGRADES_MODULES) :],
            began_earlier=has_begun_earlier(),
        )
        done = put_back(upgrade.put_back, index=BEFORE_THE_FIRST, about=upgrade.about, seconds=PUT_BACK_SECONDS)
        said, whole = done.said, done.whole
    elif by_itself and (before := read_commit_before()) is not None and not has_begun_earlier():
        upgrade = Upgrade(database, host, {}, read_checked_out() or "", before)
        done = put_back(
            upgrade.put_code_back_under_odoo,
            index=BEFORE_THE_FIRST,
            about=upgrade.about_code,
            seconds=CODE_BACK_SECONDS,
        )
        said = done.said
    else:
        said = tell_how_far()
    if by_itself:
        raise StepFailedError(f"the process of the attempt before was killed, and an upgrade is not repeated: {said}")
    if not whole:
        raise StepFailedError(f"what an earlier attempt left comes before anything else: {said}")


def _listed(words: list[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more
