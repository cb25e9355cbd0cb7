"""The previous commit that an earlier upgrade noted beside the checkout, and that the next one goes by."""

from __future__ import annotations

from blocks.checkout import MARK
from blocks.odoo_host import OdooHost, run_there
from flows.engine.active_run import current_run

_LOOK_SECONDS = 40.0
_LEFT = f"""\
{MARK}
cd -- "$REPO" && commit=$(commit_of_before) && file=$(mark_of) || return 0
printf '%s\\n' "$commit" "$(git rev-parse HEAD)" "$(date --utc --reference="$file" '+%Y-%m-%d %H:%M')" "$file"
"""


def warn_of_left_commit(host: OdooHost, database: str) -> None:
    """Warn where the database is taken to belong to another commit than the one that is checked out.

    Somebody may have upgraded it by hand since, which the room does not see. A host that does not answer is left to the
    step that notes the commit: that one fails.
    """
    _, said, _ = run_there(host, _LEFT, {}, seconds=_LOOK_SECONDS)
    if len(lines := said.splitlines()) != 4:
        return
    commit, head, since, file = lines
    current_run().event(
        f"{host.repo_dir} is at {head[:12]} since {since} UTC, for an upgrade that touched no module: {database} is "
        f"taken to belong to {commit[:12]} still, to which a rollback would go back. Hint: where somebody has upgraded "
        f"modules by hand since, remove {file} where Odoo runs, and start this upgrade again",
        level="warning",
        commit=commit,
    )
