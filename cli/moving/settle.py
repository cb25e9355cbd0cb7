"""What a room that comes out of a backup becomes: one with an id of its own, that works on or holds still."""

from __future__ import annotations

import json
from uuid import UUID

from cli.moving.archive import Manifest
from cli.moving.databases import connected
from opsdb.room_identity import VARIABLE, room_id
from opsdb.settings import Settings

_READ = "SELECT value FROM public.variable WHERE name = %s"
_FIRST_ID = "SELECT id::text FROM public.block_type WHERE slug = 'backup-target'"
_WRITE = """
INSERT INTO public.variable (name, value) VALUES (%s, %s::jsonb) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value
"""
_PAUSE = "UPDATE public.work_pool SET is_paused = %s WHERE starts_with(name, 'lane-')"


def settle(settings: Settings, manifest: Manifest, *, room: UUID, take_over: bool) -> None:
    """Give the restored room its id; with `take_over` also the places of the old one.

    Otherwise its lanes are paused, and it is marked as a copy of the room that the backup is of. Repeating it changes
    nothing.
    """
    with connected(settings, settings.prefect_database) as db, db.transaction():
        row = db.execute(_READ, [VARIABLE]).fetchone()
        first = db.execute(_FIRST_ID).fetchone()
        old = room_id(row[0] if row else None, otherwise=str(first[0]) if first else "")  # type: ignore[arg-type]
        if old.id == str(room):
            return
        before = [*old.before, old.id] if take_over else []
        value = {"id": str(room), "before": [one for one in before if one]}
        if not take_over:
            at = f"{manifest.ops_snapshot_at:%Y-%m-%d %H:%M} UTC"
            value["copy_of"] = f"the room in {manifest.home} on host {manifest.host}, as of {at}"
        db.execute(_WRITE, [VARIABLE, json.dumps(value)])
        if not take_over or old.copy_of:  # the lanes of a copy were paused by its restore
            db.execute(_PAUSE.encode(), [not take_over])
