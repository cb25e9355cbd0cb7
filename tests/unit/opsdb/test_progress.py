"""The arithmetic of progress, and what people read of it."""

from __future__ import annotations

import json

import pytest

from opsdb.progress import WINDOW_SECONDS, Pace, Progress

MB = 1_000_000


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (Progress(done_bytes=412 * MB), "412.0 MB"),
        (Progress(done_bytes=0, total_bytes=0), "0 B"),
        (Progress(done_bytes=412 * MB, bytes_per_second=38.2 * MB), "412.0 MB  38.2 MB/s"),
        (
            Progress(done_bytes=412 * MB, total_bytes=654 * MB, estimated=True, bytes_per_second=38.2 * MB),
            "412.0 MB  62 % of about 654.0 MB  38.2 MB/s  6 s left",
        ),
        (
            Progress(done_bytes=412 * MB, total_bytes=6540 * MB, bytes_per_second=38.2 * MB),
            "412.0 MB  6 % of 6.5 GB  38.2 MB/s  2 min 40 s left",
        ),
        (
            Progress(done_bytes=653_999_999, total_bytes=654 * MB, bytes_per_second=38.2 * MB),
            "654.0 MB  99 % of 654.0 MB  38.2 MB/s  1 s left",
        ),
        (
            Progress(done_bytes=654 * MB, total_bytes=654 * MB, bytes_per_second=0.0),
            "654.0 MB  99 % of 654.0 MB  0 B/s",
        ),
        (
            Progress(done_bytes=700 * MB, total_bytes=654 * MB, estimated=True, bytes_per_second=38.2 * MB),
            "700.0 MB  more than the 654.0 MB of last time  38.2 MB/s",
        ),
        # a file that grew since its size was known
        (Progress(done_bytes=700 * MB, total_bytes=654 * MB), "700.0 MB  99 % of 654.0 MB"),
    ],
)
def test_people_read_what_is_known_and_nothing_made_up(progress: Progress, said: str) -> None:
    assert str(progress) == said
    assert Progress.of(json.loads(json.dumps(progress.columns))) == progress


def rates(*seen: tuple[float, int]) -> list[float | None]:
    pace = Pace()
    return [pace.paced(Progress(done_bytes=done), at=at).bytes_per_second for at, done in seen]


def test_rate_is_that_of_the_last_while() -> None:
    assert rates((0, 0), (1, 10), (3, 50)) == [None, 10, pytest.approx(50 / 3)]
    steady = [(float(at), at * 10) for at in range(100)]
    assert rates(*steady, (100.0, 990 + 200))[-1] == pytest.approx((1190 - 800) / WINDOW_SECONDS)


def test_rate_of_what_stands_still_falls_to_nothing() -> None:
    found = rates((0, 0), (1, 100), *((float(at), 100) for at in range(2, 30)))
    assert found[2] == 50
    assert found[-1] == 0


def test_what_begins_again_has_no_negative_rate_and_no_time_left() -> None:
    assert rates((0, 0), (1, 100), (2, 10), (3, 30)) == [None, 100, None, 20]
    pace = Pace()
    pace.paced(Progress(done_bytes=100), at=5)
    assert pace.paced(Progress(done_bytes=100, total_bytes=50), at=5).seconds_left is None
