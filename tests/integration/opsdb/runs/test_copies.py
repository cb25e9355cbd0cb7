"""Which backups were copied to a target, read from the record of runs."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

from sqlalchemy import text

from opsdb.database import connect
from opsdb.runs.copies import copies_made
from opsdb.settings import Settings
from tests.integration.opsdb.runs.test_drills import INSERT


def test_copies_of_backups_that_succeeded_count(settings: Settings) -> None:
    engine = connect(settings, application="test")
    try:
        with engine.begin() as db:
            session = db.execute(
                text("INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 's') RETURNING id")
            ).scalar_one()

            def run(status: str, ago: int, target: object, kind: str = "odoo_db_backup") -> UUID:
                made = uuid4()
                values = {"id": made, "kind": kind, "status": status, "ago": ago, "session": session}
                db.execute(text(INSERT), {**values, "result": json.dumps({"file": "/x/a.dump", "target": target})})
                return made

            far = {"block": "far", "url": "s3://far/odoo/a.dump"}
            near = {"block": "near", "url": "file:///mnt/a.dump"}
            both = {"block": "far", "url": "s3://far/odoo/c.dump", "caught_up": ["s3://far/odoo/b.dump"]}
            later = run("succeeded", 1, near)
            first = run("succeeded", 2, far)
            caught_up = run("succeeded", 4, both)
            run("failed", 3, far)
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
