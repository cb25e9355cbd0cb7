"""The files of a copy that only rows named which are not in it any more, such as the keys of certificates."""

from __future__ import annotations

from flows.backup.attachments import shown_names
from flows.copies.neutral import Neutralising
from flows.copies.neutralised import Neutralised
from flows.engine.step import action
from flows.restore.filestore import Unpacked
from opsdb.errors import StepFailedError

FILES = "files of deleted rows"
"""What the check counts in the filestore."""


def remove_unnamed(files: Unpacked, change: Neutralising | None) -> None:
    """Remove them from an unpacked filestore, as a step of the current runbook, and look that none is left.

    Raises StepFailedError where one is.
    """
    if files.target is None or change is None:
        return
    action(
        "remove_unnamed",
        lambda: _remove(files, change.result),
        about="remove the files that only deleted rows named, such as keys of certificates, and look that none is left",
        must_run_again=True,
    )


def _remove(files: Unpacked, done: Neutralised | None) -> None:
    if done is None:  # not an Odoo's
        return
    done.removed = files.remove(done.unnamed)
    left = files.holds(done.unnamed)
    done.checked[FILES] = len(left)
    if left:
        raise StepFailedError(
            f"the copy is not safe to use, and was not published: {shown_names(left)} can hold keys, and cannot be "
            "removed from its filestore. Hint: look at links in the archive of the filestore"
        )
