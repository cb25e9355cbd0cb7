"""The time limits of the room: what they are, and that a scale keeps their proportions."""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from opsdb.settings import Settings
from opsdb.timings import Timings

DOCUMENTED = Path(__file__).parents[3] / "docs" / "settings.md"
OF_THE_SETTINGS = ("heartbeat", "lost", "claim", "sweep", "poll", "drain")


def test_timings_of_a_room_without_settings_are_the_defaults() -> None:
    assert Settings().timings == Timings()


def test_timings_that_can_be_set_are_by_default_what_is_documented() -> None:
    documented = dict(re.findall(r"^\| `OPS_(\w+)_SECONDS` \| `([\d.]+)` \|", DOCUMENTED.read_text(), re.MULTILINE))
    assert {name: float(documented[name.upper()]) for name in OF_THE_SETTINGS} == {
        name: getattr(Timings(), name) for name in OF_THE_SETTINGS
    }


def test_timings_of_a_room_are_these() -> None:
    # what each protects is said beside it: who changes one looks here whether the others still fit
    assert asdict(Timings()) == {
        "heartbeat": 5,
        "lost": 30,
        "lease_margin": 4,
        "claim": 60,
        "look": 1,
        "sure": 8,
        "unsure": 5,
        "retry": 1,
        "patience": 5,
        "statement": 10,
        "silent": 3,
        "sweep": 1,
        "poll": 3,
        "journals": 2,
        "backoff": 10,
        "prefect_outage": 15,
        "outcome": 10,
        "exit": 10,
        "cancel": 5,
        "put_back": 180,
        "grace": 5,
        "report": 45,
        "report_every": 2,
        "drain": 30,
        "close": 5,
        "beat": 5,
        "online": 30,
        "unanswered": 20,
    }
    assert (Timings().lease, Timings().outage, Timings().reap, Timings().stop) == (26, 11, 2, 8)


@pytest.mark.parametrize("name", OF_THE_SETTINGS)
def test_timings_take_what_an_operator_set(name: str) -> None:
    value = 10.0 if name in ("lost", "claim", "drain") else 3.0
    for scale in (1, 0.5):
        settings = Settings.model_validate({f"{name}_seconds": value, "time_scale": scale})
        assert getattr(settings.timings, name) == value * scale


@pytest.mark.parametrize("scale", [1, 0.25])
def test_time_scale_scales_every_one(scale: float) -> None:
    scaled, room = Settings(time_scale=scale).timings, Timings()
    for field in fields(Timings):
        assert getattr(scaled, field.name) == pytest.approx(getattr(room, field.name) * scale)
    assert scaled.lease == room.lease * scale
    assert scaled.outage == room.outage * scale


@pytest.mark.parametrize("scale", [1, 0.25])
def test_timings_keep_the_order_on_which_the_verdicts_stand(scale: float) -> None:
    timings = Timings().scaled(scale)
    # a run lives through one connection that went silent, and one whose process may not overlap ends before the verdict
    assert timings.heartbeat + timings.statement + timings.silent < timings.lease < timings.lost
    assert timings.sure < timings.lost
    assert timings.look < timings.reap
    assert timings.grace < timings.stop
