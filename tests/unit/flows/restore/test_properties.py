"""Settings of a database as statements."""

from __future__ import annotations

import pytest

from flows.restore.properties import _setting


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('search_path="$user", public', "\"search_path\" TO '$user', 'public'"),
        ('search_path="a "" b", c', "\"search_path\" TO 'a \" b', 'c'"),
        ("search_path=", "\"search_path\" TO ''"),
        ("TimeZone=Asia/Kolkata", "\"TimeZone\" TO 'Asia/Kolkata'"),
        ("DateStyle=SQL, DMY", "\"DateStyle\" TO 'SQL, DMY'"),
        ("app.it=a=b'; DROP TABLE x", "\"app\".\"it\" TO 'a=b''; DROP TABLE x'"),
    ],
)
def test_setting_becomes_quoted_words(setting: str, words: str) -> None:
    assert _setting(setting).as_string() == words
