"""An upgrade that waits for an approval: Odoo may be started meanwhile, so the previous code is checked out under
it."""

from __future__ import annotations

from collections.abc import Callable

from flows.engine.active_run import current_run
from flows.engine.approval import approval
from flows.engine.step import StepOutput
from flows.odoo.broken_upgrade import CODE_BACK, Upgrade, code_back_unless_done
from flows.odoo.parameters import APPROVAL_MINUTES
from flows.odoo.site import AT_UNCHANGED

CODE_SECONDS = 60

# Nothing is fetched: this commit was checked out before.
_CODE_AGAIN = f"""\
{AT_UNCHANGED}
found=$(git rev-parse HEAD)
if [ "$found" != "$WAITS_AT" ] && [ "$found" != "$COMMIT" ]; then
  echo "$REPO is at $found now and no longer at $WAITS_AT: something else has checked it out while this upgrade" \
    "waited. Nothing was changed. Hint: start the upgrade again, with ops retry and without --from-failed" >&2
  exit 65
fi
at "$COMMIT" || {{ code=$?; at "$found" || true; exit "$code"; }}
"""


def wait_for_approval(
    question: str,
    minutes: int,
    upgrade: Upgrade,
    values: dict[str, str],
    run_on_host: Callable[[str, str, int], StepOutput],
) -> None:
    """Wait where the room requires one, and say where minutes were given for nothing.

    `run_on_host` does a step by its name, shell text and seconds, with the environment `values`.
    """
    run = current_run()
    if not run.settings.upgrade_approval:
        if minutes != APPROVAL_MINUTES:
            run.event("nobody is asked to approve: OPS_UPGRADE_APPROVAL is off", level="warning")
        return
    with code_back_unless_done(upgrade):
        values["WAITS_AT"] = run_on_host("code_of_before", CODE_BACK, CODE_SECONDS).word("now")
    approval("approve_upgrade", question, timeout=60 * minutes)
    with code_back_unless_done(upgrade):
        run_on_host("code_of_upgrade", _CODE_AGAIN, CODE_SECONDS)
