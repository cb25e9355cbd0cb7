"""The exporter on a server of one's own, with a login that is no superuser."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
from pydantic import SecretStr

from opsdb.database import connect
from opsdb.migrate import upgrade
from opsdb.runs.runs import RunFacts, apply_states
from opsdb.runs.totals import fold_deltas
from opsdb.settings import Settings
from opsdb.states import State
from opsdb.tables import Lane
from tests.integration.exporter.conftest import serving
from tests.support.postgres import running


def test_a_login_with_createrole_is_enough_to_count_and_to_serve(short_folder: Path) -> None:
    folder = short_folder / "rights"
    folder.mkdir()
    with running(folder) as url:
        with psycopg.connect(url.format(database="postgres"), autocommit=True) as db:
            db.execute("CREATE ROLE room LOGIN CREATEROLE")
            db.execute("CREATE DATABASE opsroom OWNER room TEMPLATE template0")
        own = url.replace("postgres@", "room@").format(database="opsroom")
        settings = Settings(home=folder, database_url=SecretStr(own))
        upgrade(settings)
        engine = connect(settings, application="test")
        now = datetime.now(UTC)
        run = RunFacts(id=uuid4(), kind="deploy", lane=Lane.A, priority=0, session_id=None, params={}, created_at=now)
        with engine.begin() as writer:
            apply_states(writer, facts=run, states=[State(id=uuid4(), at=now, type="COMPLETED", name="Completed")])
            assert fold_deltas(writer) == 2
        engine.dispose()
        with serving(settings) as served:
            said = served.scrape()
        assert said("ops_up") == 1
        assert said("ops_runs_finished_total", kind="deploy", lane="A", outcome="succeeded") == 1
