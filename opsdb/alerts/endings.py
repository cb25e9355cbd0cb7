"""How episodes ended, kept with them: who answered what a run had asked, and which success made a failure good."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
from uuid import UUID

from sqlalchemy import Connection, text

from opsdb.alerts.episodes import Rule
from opsdb.alerts.report import RESOLVED_BY
from opsdb.proven import GOOD_BACKUP, SUCCEEDED
from opsdb.states import NEVER_RESUMED, State

ANSWERS = text("""
SELECT e.id AS episode, st.id, st.at, st.type, st.name, st.message, st.source
FROM ops.alert_episodes e
     JOIN ops.run_states asked ON asked.id = CAST(e.facts->>'asked' AS uuid),
     LATERAL (SELECT * FROM ops.run_states s WHERE s.run_id = e.run_id AND (s.at, s.id) > (asked.at, asked.id)
              ORDER BY s.at, s.id LIMIT 1) st
WHERE e.id = ANY(:episodes)
""")
NOTE = text(
    "UPDATE ops.alert_episodes SET facts = facts || jsonb_build_object('answer', CAST(:answer AS text)) WHERE id = :id"
)
LOOKED_BACK = "3 days"
"""How long ago a run may have ended, by Prefect's time, that an alert is about or ends with: what Prefect remembers of
last month when a room first reads it alerts nobody."""
ABOUT = "coalesce(r.resource, 'odoo_db:' || (r.params->>'odoo_db'), '')"
"""What a run is about: a run that never began has no resource yet, and a drill needs none."""
FAILURES = text(f"""
SELECT e.id AS episode, r.kind, {ABOUT} AS about, r.finished_at
FROM ops.alert_episodes e JOIN ops.runs r ON r.id = e.run_id
WHERE e.id = ANY(:episodes) AND r.finished_at IS NOT NULL
""")  # noqa: S608 - a constant
SUCCESSES = text(f"""
SELECT r.kind, {ABOUT} AS about, r.finished_at, r.id
FROM ops.runs r
WHERE r.kind = ANY(:kinds) AND {SUCCEEDED} AND r.finished_at > statement_timestamp() - interval '{LOOKED_BACK}'
ORDER BY r.finished_at
""")  # noqa: S608 - a constant
VERIFIED = text(f"""
SELECT e.id AS episode, verified.id AS run_id
FROM ops.alert_episodes e, LATERAL (  -- in the index's own order, to the letter
  SELECT id, finished_at FROM ops.runs
  WHERE {GOOD_BACKUP} AND params->>'odoo_db' = e.subject
  ORDER BY params->>'odoo_db', finished_at DESC LIMIT 1) verified
WHERE e.id = ANY(:episodes) AND verified.finished_at >= e.opened_at
""")  # noqa: S608 - a constant
NOTE_SUCCESSES = text(f"""
UPDATE ops.alert_episodes e
SET facts = e.facts || jsonb_build_object(
  '{RESOLVED_BY}', jsonb_build_object('id', r.id, 'name', coalesce(r.name, r.kind), 'at', r.finished_at))
FROM unnest(CAST(:episodes AS bigint[]), CAST(:runs AS uuid[])) AS found (episode, run_id)
     JOIN ops.runs r ON r.id = found.run_id
WHERE e.id = found.episode
""")  # noqa: S608 - a constant


def note_ends(db: Connection, rule: Rule, episodes: Sequence[int]) -> None:
    """Note with episodes of a rule that are over how they ended, where the record says so.

    An episode that ended because its run was deleted, or its rule turned off, gets nothing.
    """
    if rule is Rule.APPROVAL:
        _note_answers(db, episodes)
    elif rule in (Rule.FAILED, Rule.BACKUP):
        found = _successes_after(db, episodes) if rule is Rule.FAILED else _verified_since(db, episodes)
        if found:
            db.execute(NOTE_SUCCESSES, {"episodes": list(found), "runs": list(found.values())})


def answer_of(state: State) -> str:
    """How a question was answered that this state followed, for people."""
    if state.type == "SCHEDULED":
        return state.approving
    if state.type in ("CANCELLING", "CANCELLED"):
        return state.message or "cancelled in Prefect's UI or over its API"
    if NEVER_RESUMED.fullmatch(state.message or ""):
        return "nobody answered in time"
    return f"none: somebody set it to {state.name} in Prefect"


def _note_answers(db: Connection, episodes: Sequence[int]) -> None:
    """By the state that followed the question. An episode that an earlier version opened gets no answer."""
    for row in db.execute(ANSWERS, {"episodes": list(episodes)}).all():
        state = State(id=row.id, at=row.at, type=row.type, name=row.name, message=row.message, source=row.source)
        db.execute(NOTE, {"id": row.episode, "answer": answer_of(state)})


def _verified_since(db: Connection, episodes: Sequence[int]) -> dict[int, UUID]:
    """The newest backup of each episode's database that was verified after it began."""
    return {row.episode: row.run_id for row in db.execute(VERIFIED, {"episodes": list(episodes)})}


def _successes_after(db: Connection, episodes: Sequence[int]) -> dict[int, UUID]:
    """The first success of the same kind, about the same thing, that came after each failure; its own when it was
    retried. Compared here and not in SQL, as the rules are: planned without statistics, 10,000 took too long there."""
    failures = db.execute(FAILURES, {"episodes": list(episodes)}).all()
    successes = defaultdict[tuple[str, str], list[tuple[datetime, UUID]]](list)
    for row in db.execute(SUCCESSES, {"kinds": sorted({row.kind for row in failures})}):
        successes[row.kind, row.about].append((row.finished_at, row.id))
    found = {}
    for row in failures:
        later = successes[row.kind, row.about]
        if (first := bisect_left(later, row.finished_at, key=itemgetter(0))) < len(later):
            found[row.episode] = later[first][1]
    return found
