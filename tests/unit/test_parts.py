"""How the processes of `make test` share the tests."""

from __future__ import annotations

import pytest

from tests.conftest import part_of


@pytest.mark.parametrize(
    ("nodeid", "part"),
    [
        ("tests/acceptance/faults/test_stops.py::test_a[x::y/z]", "tests/acceptance/faults"),
        ("tests/acceptance/room/test_seen.py::test_b", "tests/acceptance/room"),
        ("tests/integration/deployments/sync/test_sync.py::test_c", "tests/integration/deployments/sync/test_sync.py"),
    ],
)
def test_one_process_does_a_lab_a_room_or_a_file(nodeid: str, part: str) -> None:
    assert part_of(nodeid) == part
