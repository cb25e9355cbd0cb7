"""What the doctor says of a database that every login of the server may connect to."""

from __future__ import annotations

from cli.doctor.database import judge_access
from opsdb.public_access import PublicAccess

REVOKE = "REVOKE CONNECT, TEMPORARY ON DATABASE opsroom FROM PUBLIC"


def access(*, grants: tuple[str, ...] = (), revokes: tuple[str, ...] = (REVOKE,), made: bool = False) -> PublicAccess:
    return PublicAccess("opsroom", made, grants, revokes)


def test_closed_database_is_well_whoever_made_it() -> None:
    assert judge_access(access(revokes=()), ours=False).ok
    assert judge_access(access(revokes=(), made=True), ours=True).ok


def test_what_the_room_made_is_closed_by_an_upgrade() -> None:
    assert "ops db upgrade" in judge_access(access(made=True), ours=False).advice
    assert "ops db upgrade" in judge_access(access(), ours=True).advice


def test_statements_are_whole_or_say_whom_they_leave_out() -> None:
    short = "GRANT CONNECT ON DATABASE opsroom TO ops_monitor"
    assert judge_access(access(grants=(short,)), ours=False).advice == f"as its owner: {short}; {REVOKE}"
    long = short + ", somebody" * 30
    advice = judge_access(access(grants=(long,)), ours=False).advice
    assert "each role that works in it" in advice
    assert advice.endswith(REVOKE)
    assert len(advice) < 300
