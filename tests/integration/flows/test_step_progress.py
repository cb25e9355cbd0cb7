"""By what each long step of a backup and of a restore is measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.engine import step as engine_step
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from opsdb.progress import Progress


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Progress | None]:
    """How far each measured step was at its end."""
    found: dict[str, Progress | None] = {}
    recorded = engine_step._recorded

    def look(*args: Any, **given: Any) -> Any:
        try:
            return recorded(*args, **given)
        finally:
            if given["progress"] is not None:
                found[given["name"]] = given["progress"].look()

    monkeypatch.setattr(engine_step, "_recorded", look)
    return found


@pytest.mark.usefixtures("attachments")
def test_each_long_step_knows_how_much_it_has_to_do(
    database: str,
    folder: Path,
    block: Callable[[Path], str],
    tmp_path: Path,
    measured: dict[str, Progress | None],
) -> None:
    (tmp_path / "away").mkdir(mode=0o700)
    target = block(tmp_path / "away")
    first = json.loads(Path(odoo_db_backup(database, target=target)["manifest"]).read_text())
    dump, archive = first["size_bytes"], first["filestore"]["size_bytes"]
    files = dump + archive + first["globals"]["size_bytes"]
    assert measured.pop("prune target") is measured.pop("catch up") is None  # nothing was sent
    uploaded = measured.pop("upload")
    assert uploaded is not None
    assert files < uploaded.done_bytes == uploaded.total_bytes < files + 1_000_000  # the manifest too
    assert measured == {
        "pg_dump": Progress(done_bytes=dump),
        "filestore": Progress(done_bytes=archive),
        "attachments": Progress(done_bytes=0, total_bytes=archive),
        "verify": Progress(done_bytes=0, total_bytes=2 * dump),
    }

    second = odoo_db_backup(database)
    expected = Progress(done_bytes=second["size_bytes"], total_bytes=dump, estimated=True)
    assert measured["pg_dump"] == expected
    assert (measured["filestore"] or expected).total_bytes == archive

    measured.clear()
    shutil.rmtree(folder)
    odoo_db_restore(f"{database}_copy", first["file"], filestore_dir=str(tmp_path / "new"), target=target)
    assert {step: progress and progress.total_bytes for step, progress in measured.items()} == {
        "download": files,
        "checksum": files,
        "restore": dump,
        "filestore": archive,
    }
    assert (measured["download"] or expected).done_bytes == files
