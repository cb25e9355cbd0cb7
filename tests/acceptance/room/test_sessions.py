"""Sessions: made, joined, counted and cancelled from the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from tests.acceptance.room.desk import Desk
from tests.support.waiting import wait_for


def session_of(desk: Desk, text: str, *, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """`ops session show`, as soon as it shows what is waited for."""

    def shown() -> dict[str, Any] | None:
        document: dict[str, Any] = desk.json("session", "show", text)
        return document if until(document) else None

    found = wait_for(shown, seconds=20, what=f"session {text}")
    assert found is not None
    return found


def test_session_is_completed_when_its_runs_are_over_and_active_again_with_another(desk: Desk, database: str) -> None:
    name = f"release of {database}"
    made = desk.json("session", "create", name, "--description", "what it is for")["id"]
    assert desk.json("session", "show", made)["status"] == "active"
    run = desk.run("odoo_db_backup", "-p", f"odoo_db={database}", "--session", made)
    ended = session_of(desk, made, until=lambda each: each["status"] == "completed")
    assert (ended["runs"], ended["succeeded"], ended["unfinished"]) == (1, 1, 0)
    assert [each["id"] for each in ended["of"]] == [run["id"]]
    assert name in desk.ops("session", "show", made[-6:]).fine()
    desk.run("odoo_db_backup", "-p", "odoo_db=none_such", "--session", name)  # by name it joins the same one
    again = session_of(desk, made, until=lambda each: each["failed"] == 1 and each["status"] == "completed")
    assert again["runs"] == 2
    assert next(each for each in desk.json("session", "list") if each["id"] == made)["failed"] == 1


def test_cancelling_a_session_cancels_what_runs_and_what_waits_and_closes_it(
    desk: Desk, store: Callable[..., str]
) -> None:
    block = store("sleeper", "sleep 300")
    made = desk.json("session", "create", "to be cancelled")["id"]
    for _ in range(5):  # three run at once
        desk.ops("run", "stored_command", "-p", f"block={block}", "--lane", "D", "--session", made).fine()
    session_of(desk, made, until=lambda each: sum(run["status"] == "running" for run in each["of"]) == 3)
    answer = desk.json("session", "cancel", made)
    assert len(answer["cancelled"]) == 5
    ended = session_of(desk, made, until=lambda each: each["unfinished"] == 0)
    assert (ended["status"], ended["cancelled"], ended["runs"]) == ("cancelled", 5, 5)
    refused = desk.ops("run", "stored_command", "-p", f"block={block}", "--session", made).refused(2)
    assert "was cancelled" in refused
    assert desk.json("session", "show", made)["runs"] == 5


def test_wrong_sessions_are_refused_in_one_line(desk: Desk) -> None:
    nobody = str(uuid4())
    assert "ops session list" in desk.ops("session", "show", "no such").refused(2)
    assert nobody in desk.ops("run", "odoo_db_backup", "-p", "odoo_db=x", "--session", nobody).refused(2)
    twins = [desk.json("session", "create", "twin")["id"] for _ in range(2)]
    refused = desk.ops("session", "cancel", "twin").refused(2)
    assert all(twin in refused for twin in twins)
    assert "empty" in desk.ops("session", "create", " ").refused(2)
