"""Who answered what a run had asked, kept with the episode of its question."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

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


def answer_of(state: State) -> str:
    """How a question was answered that this state followed, for people."""
    if state.type == "SCHEDULED":
        return state.approving
    if state.type in ("CANCELLING", "CANCELLED"):
        return state.message or "cancelled in Prefect's UI or over its API"
    if NEVER_RESUMED.fullmatch(state.message or ""):
        return "nobody answered in time"
    return f"none: somebody set it to {state.name} in Prefect"


def note_answers(db: Connection, episodes: Sequence[int]) -> None:
    """Note with episodes of approvals that are over how they were answered: by the state that followed the question.

    An episode whose run was deleted, or that an earlier version opened, gets no answer.
    """
    for row in db.execute(ANSWERS, {"episodes": list(episodes)}).all():
        state = State(id=row.id, at=row.at, type=row.type, name=row.name, message=row.message, source=row.source)
        db.execute(NOTE, {"id": row.episode, "answer": answer_of(state)})
