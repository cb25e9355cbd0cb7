from __future__ import annotations

from opsdb.amounts import seconds, size


def test_amounts_are_said_as_people_do() -> None:
    assert [seconds(v) for v in (None, 4.24, 65, 7800)] == ["", "4.2 s", "1 min 05 s", "2 h 10 min"]
    assert [size(v) for v in (None, 12, 12_300, 5_000_000_000_000)] == ["0 B", "12 B", "12.3 kB", "5.0 TB"]
