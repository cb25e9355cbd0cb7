"""Which backups were copied and which were restored, read from the record of runs."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

from sqlalchemy import text

from opsdb.database import connect
from opsdb.runs.backups import copies_made, last_drills, recorded_sums
from opsdb.settings import Settings

INSERT = """
INSERT INTO ops.runs (id, kind, lane, status, params, result, created_at, started_at, finished_at, session_id,
                      state_id, state_at, outcome)
VALUES (:id, :kind, 'A', :status, '{}', CAST(:result AS jsonb), now(), now(), now() - :ago * interval '1 hour',
        :session, gen_random_uuid(), now(), :outcome)
"""


def test_last_good_restore_of_each_backup_counts(settings: Settings) -> None:
    engine = connect(settings, application="test")
    try:
        with engine.begin() as db:
            session = db.execute(
                text("INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 's') RETURNING id")
            ).scalar_one()

            def run(kind: str, status: str, ago: int, result: object, outcome: str | None = None) -> UUID:
                made = uuid4()
                values = {"id": made, "kind": kind, "status": status, "ago": ago, "session": session}
                values |= {"outcome": outcome or status}
                db.execute(text(INSERT), {**values, "result": json.dumps(result)})
                return made

            run("odoo_restore_drill", "succeeded", 5, {"backup": "a.dump", "restore_seconds": 4})
            newest = run("odoo_restore_drill", "succeeded", 2, {"backup": "a.dump", "restore_seconds": 2.5})
            # that failed, and that somebody set to Completed
            run("odoo_restore_drill", "succeeded", 1, {"backup": "a.dump"}, outcome="failed")
            run("odoo_db_backup", "succeeded", 1, {"drill": {"backup": "b.dump"}}, outcome="failed")
            run("odoo_restore_drill", "failed", 1, {"backup": "a.dump", "restore_seconds": 1})
            inline = run("odoo_db_backup", "succeeded", 3, {"file": "/x/b.dump", "drill": {"backup": "b.dump"}})
            run("odoo_db_backup", "succeeded", 3, {"file": "/x/c.dump"})
            run("odoo_restore_drill", "succeeded", 3, None)
            restored = run("odoo_db_restore", "succeeded", 3, {"backup": "d.dump", "restore_seconds": "odd"})
            without = {"backup": "e.dump", "restore_seconds": 1, "missing_files": ["e.dump.globals.sql"]}
            run("odoo_db_restore", "succeeded", 1, without)
            run("odoo_restore_drill", "succeeded", 1, without | {"backup": "a.dump"})
            whole = run("odoo_restore_drill", "succeeded", 4, {"backup": "f.dump", "missing_files": []})
            found = last_drills(db)
    finally:
        engine.dispose()
    assert {name: (drill.run_id, drill.seconds) for name, drill in found.items()} == {
        "a.dump": (newest, 2.5),
        "b.dump": (inline, None),
        "d.dump": (restored, None),
        "f.dump": (whole, None),
    }


def test_copies_of_backups_that_succeeded_count(settings: Settings) -> None:
    engine = connect(settings, application="test")
    try:
        with engine.begin() as db:
            session = db.execute(
                text("INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 's') RETURNING id")
            ).scalar_one()

            def run(
                status: str, ago: int, target: object, kind: str = "odoo_db_backup", outcome: str | None = None
            ) -> UUID:
                made = uuid4()
                values = {"id": made, "kind": kind, "status": status, "ago": ago, "session": session}
                values |= {"outcome": outcome or status}
                db.execute(text(INSERT), {**values, "result": json.dumps({"file": "/x/a.dump", "target": target})})
                return made

            far = {"block": "far", "url": "s3://far/odoo/a.dump"}
            near = {"block": "near", "url": "file:///mnt/a.dump"}
            both = {"block": "far", "url": "s3://far/odoo/c.dump", "caught_up": ["s3://far/odoo/b.dump"]}
            later = run("succeeded", 1, near)
            first = run("succeeded", 2, far)
            caught_up = run("succeeded", 4, both)
            run("failed", 3, far)
            run("succeeded", 3, far, outcome="failed")  # somebody set it to Completed
            run("failed", 3, both)
            run("succeeded", 3, None)
            run("succeeded", 3, {"block": "far"})
            run("succeeded", 3, far, kind="nightly_backup")
            found = copies_made(db)
    finally:
        engine.dispose()
    told = {file: [(one.target, one.url, one.run_id) for one in copies] for file, copies in found.items()}
    assert told == {
        "a.dump": [("far", far["url"], first), ("near", near["url"], later)],
        "b.dump": [("far", "s3://far/odoo/b.dump", caught_up)],
        "c.dump": [("far", "s3://far/odoo/c.dump", caught_up)],
    }


def test_sums_of_files_are_those_that_backups_recorded(settings: Settings) -> None:
    engine = connect(settings, application="test")
    try:
        with engine.begin() as db:
            session = db.execute(
                text("INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 's') RETURNING id")
            ).scalar_one()

            def made(kind: str, name: str, sha256: str | None, artifact: str = "file") -> None:
                run = {"id": uuid4(), "kind": kind, "status": "succeeded", "ago": 1, "session": session, "result": "{}"}
                run |= {"outcome": "succeeded"}
                db.execute(text(INSERT), run)
                row = {"id": uuid4(), "run": run["id"], "kind": artifact, "name": name, "sha": sha256}
                columns = "(id, run_id, kind, name, sha256) VALUES (:id, :run, :kind, :name, :sha)"
                db.execute(text(f"INSERT INTO ops.artifacts {columns}"), row)

            made("odoo_db_backup", "a.dump", "1")
            made("odoo_db_backup", "a.dump", "2")
            made("odoo_db_backup", "a.dump.json", None)
            made("odoo_db_backup", "a.dump", "3", "link")
            made("disk_space", "a.dump", "4")
            found = recorded_sums(db)
    finally:
        engine.dispose()
    assert found["a.dump"] == {"1", "2"}
    assert "a.dump.json" not in found
