"""A new copy put in place of yesterday's, database and filestore, so that neither name is ever without one.

The databases change names in one transaction, and the folders by one exchange before it ends. Whoever is killed in
between leaves yesterday's database with today's filestore: that has all of yesterday's files as well.
"""

from __future__ import annotations

from flows.copies.replaced import MARK, Replaced
from flows.engine.step import step
from flows.restore.filestore import AS_OWNER, Unpacked
from flows.restore.ready import Ready
from flows.restore.scratch import Scratch

KEEP_SECONDS = 1800

# Odoo names files by their sums, so no two differ under one name. Its auto-vacuum deletes those that it finds marked in
# `checklist` and that no row of the new database names: that ends without a race what the old one alone has needed.
KEEP_OLD = f"""\
{AS_OWNER}
owner touch -- "$UNPACKED/{MARK}"
[ -d "$OLD" ] || exit 0
list() {{ owner find "$1" -type f ! -path "$1/checklist/*" -printf '%P\\0' | LC_ALL=C sort --zero-terminated; }}
only_old() {{ LC_ALL=C comm --zero-terminated -23 <(list "$OLD") <(list "$UNPACKED"); }}
marks() {{ only_old | {{ grep --null-data -xE '[0-9a-f]{{2}}/[0-9a-f]{{40}}' || true; }}; }}
under_checklist() {{ sed --null-data "s,^,$UNPACKED/checklist/,"; }}
marks | cut --zero-terminated -c1-2 | uniq --zero-terminated | under_checklist | owner xargs -0 -r mkdir --parents --
marks | under_checklist | owner xargs -0 -r touch --
only_old | owner tar --create --directory="$OLD" --null --verbatim-files-from --files-from=- --ignore-failed-read \\
  | owner tar --extract --directory="$UNPACKED" --no-same-owner --no-same-permissions --skip-old-files
"""


def keep_old_files(files: Unpacked) -> None:
    """Copy the files that only the old filestore has into the new one, as a step of the current runbook."""
    if files.target is None:
        return
    step("keep_old_files", KEEP_OLD, timeout=KEEP_SECONDS, env=files.environment | {"OLD": f"./{files.target.name}"})


def swap_in(scratch: Scratch, replaced: Replaced, files: Unpacked, ready: Ready) -> list[str]:
    """Give the new database and filestore their names; returns phrases for the properties that the server refused."""
    moved = False

    def move_files() -> None:
        nonlocal moved
        if files.is_target_there():
            files.exchange()
        else:
            files.keep()
        moved = True

    old_files = files.is_target_there()
    try:
        return scratch.keep_as(
            replaced.database, ready.properties, owner=ready.owner, first=replaced.set_aside, at_last=move_files
        )
    except BaseException:
        if moved and not replaced.is_aside():  # else the files of both are there
            if old_files:
                files.exchange()
            else:
                files.take_back()
        raise
