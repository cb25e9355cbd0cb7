"""The outbox on a real PostgreSQL: order, leases, pauses, and the end of patience."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from opsdb.alerts.incidents import prune
from opsdb.alerts.outbox import Failure, Leased, forget_others, lease, note_delivered, note_failed
from opsdb.alerts.read import read_figures
from tests.support.alerts_lab import Lab

SERVER = Failure(reason="server", http_status=503)


@pytest.fixture
def lab(engine: Engine) -> Lab:
    return Lab(engine)


def put(lab: Lab, *events: str, destination: str = "main", lane: str = "A") -> list[int]:
    """Messages of one incident, each with a delivery."""
    [incident] = lab.sql(
        "INSERT INTO ops.alert_incidents (rule, lane, opened_at, closed_at) VALUES ('stuck', :l, now(), now()) "
        "RETURNING id",
        l=lane,
    )
    made = []
    for event in events:
        [message] = lab.sql(
            "INSERT INTO ops.alert_messages (incident_id, event, level, title, body) VALUES (:i, :e, 'info', :e, :e) "
            "RETURNING id",
            i=incident.id,
            e=event,
        )
        lab.sql(
            "INSERT INTO ops.alert_deliveries (message_id, destination) VALUES (:m, :d)", m=message.id, d=destination
        )
        made.append(message.id)
    return made


def take(lab: Lab, destination: str = "main") -> Leased | None:
    with lab.engine.begin() as db:
        return lease(db, destination=destination)


def failed(lab: Lab, leased: Leased, failure: Failure = SERVER) -> bool:
    with lab.engine.begin() as db:
        return note_failed(db, leased, failure)


def delivered(lab: Lab, leased: Leased) -> None:
    with lab.engine.begin() as db:
        note_delivered(db, leased)


def test_each_message_is_leased_once_however_many_ask(lab: Lab) -> None:
    for lane in "ABCD":
        put(lab, "firing", lane=lane)
    with ThreadPoolExecutor(8) as pool:
        taken = [one.message_id for one in pool.map(lambda _: take(lab), range(32)) if one is not None]
    assert len(taken) == len(set(taken)) == 4


def test_end_is_never_sent_before_the_beginning(lab: Lab) -> None:
    firing, resolved = put(lab, "firing", "resolved")
    first = take(lab)
    assert first is not None
    assert first.message_id == firing
    assert take(lab) is None
    failed(lab, first)
    lab.sql("UPDATE ops.alert_deliveries SET next_attempt_at = now()")
    again = take(lab)
    assert again is not None
    assert (again.message_id, again.attempt) == (firing, 2)
    delivered(lab, again)
    last = take(lab)
    assert last is not None
    assert last.message_id == resolved


def test_lease_of_a_killed_sender_ends(lab: Lab) -> None:
    put(lab, "firing")
    first = take(lab)
    assert first is not None
    assert take(lab) is None
    lab.pass_seconds(31)
    second = take(lab)
    assert second is not None
    assert second.attempt == 2
    failed(lab, first)  # it was only slow: what it says of its attempt is of no matter any more
    [row] = lab.sql("SELECT leased_until IS NOT NULL AS held FROM ops.alert_deliveries")
    assert row.held


def test_pause_that_was_asked_for_holds_for_new_messages_too(lab: Lab) -> None:
    put(lab, "firing")
    leased = take(lab)
    assert leased is not None
    failed(lab, leased, Failure(reason="rate_limited", http_status=429, retry_after_seconds=120))
    put(lab, "firing", lane="B")
    assert take(lab) is None
    lab.pass_seconds(119)
    assert take(lab) is None
    lab.pass_seconds(2)
    assert take(lab) is not None


def test_one_that_is_refused_does_not_keep_back_the_others(lab: Lab) -> None:
    [refused] = put(lab, "firing")
    leased = take(lab)
    assert leased is not None
    failed(lab, leased, Failure(reason="configuration", lasting=True, http_status=413))
    [other] = put(lab, "firing", lane="B")
    lab.sql("UPDATE ops.alert_deliveries SET next_attempt_at = now()")
    following = take(lab)
    assert following is not None
    assert following.message_id == other != refused


def test_success_ends_the_waiting_of_the_others(lab: Lab) -> None:
    put(lab, "firing")
    put(lab, "firing", lane="B")
    first = take(lab)
    assert first is not None
    failed(lab, first)
    assert take(lab) is None  # the destination is down for both
    lab.sql("UPDATE ops.alert_deliveries SET next_attempt_at = now() WHERE message_id = :m", m=first.message_id)
    again = take(lab)
    assert again is not None
    delivered(lab, again)
    assert take(lab) is not None


def test_after_a_day_it_is_given_up_and_stays_known(lab: Lab) -> None:
    put(lab, "firing", "resolved")
    first = take(lab)
    assert first is not None
    assert failed(lab, first) is False
    lab.pass_seconds(86_401)
    again = take(lab)
    assert again is not None
    assert failed(lab, again) is True
    assert take(lab) is None
    assert lab.sql("SELECT * FROM ops.alert_deliveries WHERE dead_at IS NULL") == []  # the end of what nobody heard
    with lab.engine.connect() as db:
        assert (read_figures(db).dead, read_figures(db).pending) == (1, 0)


def test_totals_do_not_go_back_when_history_is_pruned(lab: Lab) -> None:
    put(lab, "firing")
    leased = take(lab)
    assert leased is not None
    failed(lab, leased)
    delivered(lab, leased)
    delivered(lab, leased)
    lab.pass_seconds(31 * 86_400)
    with lab.engine.begin() as db:
        prune(db)
        figures = read_figures(db)
    assert lab.sql("SELECT * FROM ops.alert_messages") == []
    assert (figures.delivered_total, figures.failed_total) == (1, {"server": 1})


def test_what_waits_for_a_removed_destination_is_dead(lab: Lab) -> None:
    put(lab, "firing", destination="old")
    with lab.engine.begin() as db:
        forget_others(db, ["main"])
    [row] = lab.sql("SELECT reason FROM ops.alert_deliveries WHERE dead_at IS NOT NULL")
    assert row.reason == "destination removed"
