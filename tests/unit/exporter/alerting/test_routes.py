"""Who hears of what, as OPS_ALERT_URLS and OPS_ALERT_THRESHOLDS say it, and what an unknown word does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from exporter.alerting.alerter import Alerter
from exporter.alerting.routes import read_orders
from opsdb.errors import UsageError
from opsdb.kinds.kind_names import FILE, read_kind_names, remember_kinds
from opsdb.settings import Settings

URL = "mmost://127.0.0.1:8065/h5xkq3zt1pgj8bdu7rwmcn4eya"


def room(home: Path, *, urls: str = "", thresholds: str = "", templates: Path | None = None) -> Settings:
    return Settings(home=home, alert_urls=SecretStr(urls), alert_thresholds=thresholds, templates=templates)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("Critical", "unknown word 'Critical'. Did you mean critical?"),
        ("critcal", "unknown word 'critcal'. Did you mean critical?"),
        ("warning,WARN", "unknown word 'WARN'. Did you mean warning?"),
        ("error", "unknown word 'error'. Hint: words before = are severities (critical, warning) or runbooks"),
        ("stuck", "'stuck' is a rule, whose severity is 'critical'."),
        ("odoo_db_backp", "unknown word 'odoo_db_backp'. Did you mean odoo_db_backup?"),
        ("Odoo_db_backup", "Did you mean odoo_db_backup?"),
        ("*", "unknown word before ="),
    ],
)
def test_unknown_word_is_refused_with_the_nearest_right_one(tmp_path: Path, words: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_orders(room(tmp_path, urls=f"{URL} {words}={URL}"))
    assert str(refused.value).startswith("OPS_ALERT_URLS: entry 2: ")
    assert said in str(refused.value)
    assert "h5xkq3zt1" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("failed:odoo_db_backp=0", "unknown 'odoo_db_backp'. Did you mean odoo_db_backup?"),
        ("qeued=900", "unknown 'qeued'. Did you mean queued?"),
        ("Queued=900", "unknown 'Queued'. Did you mean queued?"),
        ("stuck=900", "expected RULE=SECONDS"),
        ("failed:=900", "expected RULE=SECONDS"),
    ],
)
def test_unknown_word_of_a_threshold_is_refused_with_the_nearest_right_one(
    tmp_path: Path, words: str, said: str
) -> None:
    with pytest.raises(UsageError, match="OPS_ALERT_THRESHOLDS") as refused:
        read_orders(room(tmp_path, thresholds=f"backup=90000 {words}"))
    assert said in str(refused.value)


def test_alerter_does_not_begin_with_a_word_that_means_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean critical"):
        Alerter(room(tmp_path, urls=f"critcal={URL}"))


def test_words_that_mean_something_are_taken(tmp_path: Path) -> None:
    urls = f"critical,odoo_db_backup={URL} warning={URL}x {URL}/?to=ops-alerts"
    orders = read_orders(room(tmp_path, urls=urls, thresholds="failed:disk_space=0"))
    assert [(sorted(route.severities), sorted(route.kinds)) for route in orders.routes] == [
        (["critical"], ["odoo_db_backup"]),
        (["warning"], []),
        ([], []),
    ]
    assert orders.gone == []
    assert URL not in repr(orders)


def test_runbook_that_was_taken_away_stops_nothing_and_is_named(tmp_path: Path) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    file = templates / "tidy_up.yaml"
    file.write_text("kind: tidy_up\nsteps: []\n")
    settings = room(tmp_path / "home", urls=f"tidy_up={URL}", thresholds="failed:tidy_up=0", templates=templates)
    assert read_orders(settings).gone == []
    remember_kinds(settings)
    file.unlink()
    assert read_orders(settings).gone == ["tidy_up"]
    with pytest.raises(UsageError, match="unknown word 'tidy_up'"):
        read_orders(room(tmp_path / "another", urls=f"tidy_up={URL}"))


def test_room_of_an_earlier_version_starts_with_a_runbook_that_was_taken_away(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{}")  # and no names were kept
    settings = room(tmp_path, urls=f"critical,tidy_up={URL} backup_all={URL}", thresholds="failed:tidy_up=0")
    gone = read_orders(settings).gone
    assert gone == ["backup_all", "tidy_up"]
    for word in ("critcal", "Critical", "WARN", "warnings", "stuck", "*"):
        with pytest.raises(UsageError, match="OPS_ALERT_URLS: entry 1: "):
            read_orders(room(tmp_path, urls=f"{word}={URL}"))
    with pytest.raises(UsageError, match="Did you mean failed"):
        read_orders(room(tmp_path, thresholds="faild:tidy_up=0"))
    remember_kinds(settings, gone=gone)
    assert read_orders(settings).gone == gone  # and at the next start
    with pytest.raises(UsageError, match="unknown word 'another'"):
        read_orders(room(tmp_path, urls=f"another={URL}"))


def test_while_a_template_cannot_be_read_any_name_may_be_its_runbook(tmp_path: Path) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "broken.yaml").write_text("kind: [")
    assert not read_kind_names(room(tmp_path, templates=templates)).complete
    assert read_orders(room(tmp_path, urls=f"tidy_up={URL}", templates=templates)).gone == []
    with pytest.raises(UsageError, match="Did you mean critical"):
        read_orders(room(tmp_path, urls=f"Critical={URL}", templates=templates))


@pytest.mark.parametrize(
    ("url", "ui", "lost"),
    [
        ("mmosts://chat.example.org/TOKEN", None, True),
        ("slack://TokenA/TokenB/TokenC", None, True),
        ("mailto://localhost?to=ops@example.org", None, True),
        ("block:ops-alerts", None, True),
        ("mmosts://[chat/TOKEN", None, True),
        (URL, None, False),
        ("json://localhost:8080/x", None, False),
        ("mmosts://chat.example.org/TOKEN", "http://localhost:4200", True),
        ("mmosts://chat.example.org/TOKEN", "https://ops.example.org", False),
        ("", None, False),
    ],
)
def test_links_that_nobody_can_follow_are_noticed(tmp_path: Path, url: str, ui: str | None, lost: bool) -> None:
    settings = room(tmp_path, urls=url).model_copy(update={"server_url": ui})
    assert read_orders(settings).links_end_here is lost


@pytest.mark.parametrize("kept", ["", "{", "3", '{"a": 1}', "[1, null]"])
def test_memory_that_is_damaged_is_none(tmp_path: Path, kept: str) -> None:
    (tmp_path / FILE).write_text(kept)
    settings = room(tmp_path)
    assert read_kind_names(settings).before == frozenset()
    remember_kinds(settings)
    assert "odoo_db_backup" in json.loads((tmp_path / FILE).read_text())
