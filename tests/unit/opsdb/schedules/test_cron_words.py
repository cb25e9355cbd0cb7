from __future__ import annotations

import pytest

from opsdb.schedules.cron_words import cron_of, words_of


@pytest.mark.parametrize(
    ("at", "on", "cron", "words"),
    [
        ("03:30", "daily", "30 3 * * *", "daily 03:30"),
        ("3:05", "weekdays", "5 3 * * 1-5", "weekdays 03:05"),
        ("23:59", "Weekends", "59 23 * * 0,6", "weekends 23:59"),
        ("05:00", "sun", "0 5 * * 0", "Sundays 05:00"),
        ("05:00", "Wednesday, sun", "0 5 * * 0,3", "Sun, Wed 05:00"),
    ],
)
def test_times_and_days_become_a_cron_and_words_again(at: str, on: str, cron: str, words: str) -> None:
    assert cron_of(at, on) == cron
    assert words_of(cron) == words


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 5 * * 7", "Sundays 05:00"),
        ("0 5 * * MON", "Mondays 05:00"),
        ("0 5 1 * *", "monthly on day 1, 05:00"),
        ("*/10 * * * *", "every 10 minutes"),
        ("15 * * * *", "hourly at :15"),
        ("* * * * *", "every minute"),
        ("*/7 * * * *", None),  # not every 7 minutes: it begins again each hour
        ("*/0 * * * *", None),
        ("0 5 1 * 1", None),
        ("0 5 * 6 *", None),
        ("0 5 * * 1-3", None),
        ("0 5 * * 1#1", None),
        ("0 5 * * L5", None),
        ("0 0 5 * * *", None),
        ("@daily", None),
        ("0 5,6 * * *", None),
    ],
)
def test_only_simple_crons_have_words(cron: str, words: str | None) -> None:
    assert words_of(cron) == words


@pytest.mark.parametrize("at", ["", "3", "24:00", "03:60", "3.30", "03:30:00", "-1:00"])
def test_what_is_no_time_is_refused(at: str) -> None:
    with pytest.raises(ValueError, match="is not a time of the day: expected hours and minutes"):
        cron_of(at)


@pytest.mark.parametrize("on", ["", "su", "sun,", "moonday", "1-5", "sun;wed"])
def test_what_names_no_days_is_refused(on: str) -> None:
    with pytest.raises(ValueError, match="names no days: expected daily, weekdays, weekends, or days"):
        cron_of("03:30", on)
