"""The restore drill against a real PostgreSQL: what it proves, what it finds, and that nothing of it stays."""

from __future__ import annotations

import hashlib
import re
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import pytest

from flows.backup.folder import Folder
from flows.backup.loading import LOAD
from flows.backup.manifest import Manifest
from flows.engine.active_run import ActiveRun
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_restore_drill import odoo_restore_drill
from flows.restore import scratch as scratch_database
from opsdb.errors import PreflightError, StepFailedError
from tests.integration.flows.conftest import PROGRAMS
from tests.support.backups import make_backup, manifest_at, rewrite
from tests.support.folders import names
from tests.support.postgres import databases
from tests.support.tiers import in_soak
from tests.support.waiting import wait_for


def test_drill_proves_the_newest_backup_and_leaves_nothing(postgres: str, database: str, folder: Path) -> None:
    made = odoo_db_backup(database)
    before = databases(postgres)
    result = odoo_restore_drill(database)
    assert result["backup"] == Path(made["file"]).name
    assert (result["tables_compared"], result["rows_compared"]) == (2, 30001)
    assert 0 < result["restore_seconds"] <= result["duration_seconds"]
    assert databases(postgres) == before


def test_backup_is_drilled_at_once_when_asked(postgres: str, database: str) -> None:
    before = databases(postgres)
    result = odoo_db_backup(database, restore_drill=True)
    assert result["drill"]["backup"] == Path(result["file"]).name
    assert result["drill"]["rows_compared"] == result["rows"] == 30001
    assert databases(postgres) == before


def test_backup_whose_drill_fails_deletes_no_older_one(
    database: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(parents=True, mode=0o700)
    old = make_backup(folder, database, datetime.now(UTC).replace(microsecond=0) - timedelta(days=90))
    monkeypatch.setattr("flows.restore.load.LOAD", "echo 'went wrong' >&2; exit 1")
    with pytest.raises(StepFailedError, match="went wrong"):
        odoo_db_backup(database, restore_drill=True)
    assert old.exists()


@pytest.mark.gate
def test_rows_that_changed_after_the_snapshot_do_not_matter(
    postgres: str, database: str, stand_in: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    change = "UPDATE line SET name = 'other'; INSERT INTO line (name) VALUES ('new'); DELETE FROM line WHERE id = 1"
    psql = f'psql -q -v ON_ERROR_STOP=1 "{postgres.format(database=database)}" -c "{change}" >&2'
    stand_in(f'{psql} || exit 1\n"$REAL" "$@"')
    result = odoo_db_backup(database)
    assert result["rows"] == 30001
    manifest = Folder(Path(result["file"]).parent).backups(database)[0].manifest
    assert manifest is not None
    assert manifest.contents is not None
    sequence = manifest.contents.sequences["public.line_id_seq"]
    assert sequence.before == sequence.after == (30002, True)  # as the dump has it: sequences know no snapshot
    monkeypatch.delenv("OPS_PG_BIN")
    assert odoo_restore_drill(database)["rows_compared"] == 30001


@pytest.mark.parametrize("value", ["NULL", *in_soak(["'other'"])])
def test_one_changed_value_is_found_by_its_hash(
    postgres: str, database: str, stand_in: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    # a dump that is whole in itself, of rows that are not those of the snapshot
    url = postgres.format(database=database)
    change = f'psql -q "{url}" -c "UPDATE line SET name = {value} WHERE id = 77" >&2'
    stand_in(
        f'{change}\nargs=()\nfor a in "$@"; do [[ $a = --snapshot=* ]] || args+=("$a"); done\n"$REAL" "${{args[@]}}"'
    )
    odoo_db_backup(database)
    monkeypatch.delenv("OPS_PG_BIN")
    before = databases(postgres)
    with pytest.raises(StepFailedError, match=r"table public\.line has other contents in its 30001 rows"):
        odoo_restore_drill(database)
    assert databases(postgres) == before


def test_damaged_dump_is_found_before_anything_is_restored(postgres: str, database: str) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(content)
    with pytest.raises(StepFailedError, match="the backup is damaged"):
        odoo_restore_drill(database)


def test_dump_that_pg_restore_accepts_with_one_bit_flipped_is_found_by_the_hash(
    database: str, stand_in: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in('"$REAL" --compress=none "$@"')
    dump = Path(odoo_db_backup(database)["file"])
    monkeypatch.delenv("OPS_PG_BIN")
    content = dump.read_bytes()
    at = content.index("Zażółć 123\\n".encode()) + len("Zażółć ".encode())
    content = content[:at] + bytes([content[at] ^ 2]) + content[at + 1 :]
    dump.write_bytes(content)
    rewrite(dump, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(StepFailedError, match=r"table public\.line has other contents"):
        odoo_restore_drill(database)


@pytest.mark.gate
def test_manifest_of_format_1_is_restored_and_counted(database: str) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    manifest = manifest_at(Path(f"{dump}.json"))
    assert manifest is not None
    old = Manifest.model_validate(
        manifest.model_dump(exclude={"contents", "globals", "locale", "database_bytes", "format"}) | {"format": 1}
    )
    Path(f"{dump}.json").write_text(old.model_dump_json(indent=2, exclude_none=True))
    result = odoo_restore_drill(database)
    assert (result["tables_compared"], result["rows_compared"]) == (None, None)


@pytest.mark.gate
def test_missing_backup_is_a_preflight_error(database: str, folder: Path) -> None:
    with pytest.raises(PreflightError, match=f"holds no backup of {database} that can be restored"):
        odoo_restore_drill(database)
    made = Path(odoo_db_backup(database)["file"])
    with pytest.raises(PreflightError, match=f"its newest of {database}: {made.name}"):
        odoo_restore_drill(database, backup=f"{database}_20200101T000000Z.dump")
    with pytest.raises(PreflightError, match=f"is a backup of {database} and not of {database}x"):
        odoo_restore_drill(f"{database}x", backup=made.name)


@pytest.mark.gate
def test_too_little_room_for_the_database_is_refused(
    postgres: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    rewrite(dump, database_bytes=10**18)
    before = databases(postgres)
    with pytest.raises(PreflightError, match="the restored database may need 1,000,000,000,000 MB"):
        odoo_restore_drill(database)
    assert databases(postgres) == before


def test_cancelled_drill_drops_its_database(
    postgres: str,
    database: str,
    start_flow: Callable[..., psutil.Popen],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    odoo_db_backup(database)
    before = databases(postgres)
    monkeypatch.setenv("OPS_DRILL_ON_SERVER", "true")
    slow_restore(tmp_path, monkeypatch)
    run = start_flow(database, "odoo_restore_drill")
    wait_for(lambda: databases(postgres) != before)
    run.send_signal(signal.SIGINT)
    run.wait(30)
    assert databases(postgres) == before


@pytest.mark.gate
def test_database_of_a_killed_drill_is_dropped_by_the_next_and_no_other(
    postgres: str,
    database: str,
    folder: Path,
    *,
    start_flow: Callable[..., psutil.Popen],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    odoo_db_backup(database)
    before, lying = databases(postgres), names(folder)
    foreign = f"ops_scratch_{uuid4().hex}"  # it has the form of ours, and no word of ours
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'CREATE DATABASE "{foreign}"')
    monkeypatch.setenv("OPS_DRILL_ON_SERVER", "true")
    slow_restore(tmp_path, monkeypatch)
    run = start_flow(database, "odoo_restore_drill")
    wait_for(lambda: len(databases(postgres)) == len(before) + 2)
    left = run.children(recursive=True)
    alive = (databases(postgres) - before - {foreign}).pop()
    try:
        # while it lives, nobody else drops it
        assert scratch_database.drop_leftovers(postgres.format(database="postgres")) == []
        run.kill()
        run.wait(10)
        assert names(folder) == lying  # nothing by which it had held the backup
        monkeypatch.delenv("OPS_PG_BIN")
        told: list[tuple[str, dict[str, object]]] = []
        monkeypatch.setattr(ActiveRun, "event", lambda _run, message, **data: told.append((message, data)))
        odoo_restore_drill(database)
        assert [data["databases"] for message, data in told if "killed runs" in message] == [[alive]]
        assert databases(postgres) == before | {foreign}
    finally:
        for process in left:
            if process.is_running():
                process.kill()
        with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
            db.execute(f'DROP DATABASE "{foreign}"')


def slow_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pg_restore that hangs before it does anything, but for what the preflight asks of it."""
    folder = tmp_path / "slow"
    folder.mkdir()
    for program in (PROGRAMS.pg_dump, PROGRAMS.pg_dumpall):
        (folder / program.name).symlink_to(program)
    script = folder / "pg_restore"
    before = '[[ " $* " = *" --version "* || " $* " = *" --use-list=/dev/null "* ]]'
    script.write_text(f'#!/bin/bash\n{before} && exec {PROGRAMS.pg_restore} "$@"\nexec sleep 300\n')
    script.chmod(0o755)
    monkeypatch.setenv("OPS_PG_BIN", str(folder))


def test_shell_text_holds_no_value(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    odoo_db_backup(database)
    commands: list[tuple[str, float]] = []
    monkeypatch.setattr(
        "flows.engine.step.StepStarted",
        lambda *_, command, timeout_seconds, **__: commands.append((command, timeout_seconds)),
    )
    odoo_restore_drill(database)
    assert [text for text, timeout in commands if timeout and re.search(database, text)] == []
    assert LOAD in [text for text, _ in commands]
