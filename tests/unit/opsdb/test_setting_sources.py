"""Settings out of the environment and files: what counts, what is refused, and how a process hands them on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opsdb import settings_file
from opsdb.errors import UsageError
from opsdb.setting_sources import as_environment, is_secret
from opsdb.settings import Settings, load_settings, load_with_sources


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings file of the room in which the test works; nothing is set in the environment."""
    for name in [name for name in os.environ if name.startswith("OPS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(settings_file, "OF_THE_HOST", tmp_path / "none.toml")
    (tmp_path / ".ops").mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".ops" / "ops.toml"


def test_file_is_read_as_the_environment_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(
        'heartbeat_seconds = 2.5\nstored_commands = true\nbackup_roots = ["/srv/a", "b"]\nfilestore_roots = "/x:y"\n'
        'allowed_hosts = ["a", "b"]\nbackup_dir = "../backups"\npg_bin = "/usr/bin"\nlane_limit = "4"\n'
    )
    found = load_settings()
    folder = file.parent
    assert found.home == folder
    assert (found.heartbeat_seconds, found.stored_commands, found.lane_limit) == (2.5, True, 4)
    assert found.backup_roots == (Path("/srv/a"), folder / "b")
    assert found.filestore_roots == (Path("/x"), folder / "y")
    assert (found.allowed_hosts, found.backup_dir) == ("a b", folder.parent / "backups")


def test_environment_counts_more_and_an_empty_value_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("lane_limit = 4\nprefect_port = 4300\n")
    monkeypatch.setenv("OPS_LANE_LIMIT", "5")
    monkeypatch.setenv("OPS_PREFECT_PORT", "")
    loaded = load_with_sources()
    assert (loaded.settings.lane_limit, loaded.settings.prefect_port) == (5, 4300)
    shown = {name: str(loaded.sources[name]) for name in ("home", "lane_limit", "prefect_port", "health_port")}
    assert shown == {
        "home": str(file),
        "lane_limit": "OPS_LANE_LIMIT in the environment",
        "prefect_port": f"{file}, line 2",
        "health_port": "default",
    }


def test_room_of_an_older_version_is_the_home_below_its_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file.parent / "secrets.json").write_text("{}")
    (file.parents[1] / "below").mkdir()
    monkeypatch.chdir(file.parents[1] / "below")
    loaded = load_with_sources()
    assert (loaded.settings.home, str(loaded.sources["home"])) == (file.parent, str(file.parent))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nprefct_port = 1", "line 2: 'prefct_port' is not a setting. Hint: did you mean prefect_port?"),
        ("OPS_LANE_LIMIT = 1", "line 1: 'OPS_LANE_LIMIT' is not a setting. Hint: did you mean lane_limit?"),
        ("[room]\nlane_limit = 1", "'room' is not a setting"),
        ("lane_limit = 1000", r"line 1: lane_limit: expected 100 at most (found '1000')"),
        ("lane_limit = true", "line 1: lane_limit: expected a whole number (found 'true')"),
        ("lane_limit = [1]", "line 1: lane_limit = [1]: expected a text, a number, true or false"),
        ("lane_limit = 2026-01-01", "line 1: lane_limit = datetime.date(2026, 1, 1): expected"),
        ('backup_roots = ["/a:b"]', "line 1: backup_roots: a path with a colon cannot be in a list of paths: '/a:b'"),
        ("home = 5", "line 1: expected the path of a folder"),
        ('home = "~nosuch/.ops"', "line 1: home: ~nosuch has no home folder on this host: write the whole path"),
        ('backup_dir = "~nosuch/x"', "line 1: backup_dir: ~nosuch has no home folder"),
        ('home = "a\\u0000b"', "line 1: home: a path cannot hold a NUL character"),
        ('backup_roots = ["/a\\u0000b"]', "line 1: backup_roots: holds a NUL character"),
        ('alert_thresholds = "a\\u0000b"', "line 1: alert_thresholds: holds a NUL character"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        load_settings()
    assert str(file) in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["OPS_HOME", "OPS_BACKUP_DIR"])
@pytest.mark.parametrize("settled", ["", "1"])
def test_path_below_a_home_that_is_not_there_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, settled: str
) -> None:
    monkeypatch.setenv(name, "~nosuch/x")
    monkeypatch.setenv("OPS_SETTLED", settled)
    with pytest.raises(UsageError, match=f"{name}: ~nosuch has no home folder on this host"):
        load_settings()


@pytest.mark.parametrize("name", [name for name, field in Settings.model_fields.items() if is_secret(field)])
def test_secret_in_a_file_is_refused_without_its_value(file: Path, name: str) -> None:
    file.write_text(f'{name} = "https://pa55word@host/database"')
    with pytest.raises(UsageError, match=f"line 1: {name} is a secret.* set OPS_{name.upper()} in") as refused:
        load_settings()
    assert "pa55word" not in str(refused.value)


def test_secrets_are_known_as_such() -> None:
    secret = {name for name, field in Settings.model_fields.items() if is_secret(field)}
    assert secret == {"database_url", "odoo_database_url", "exporter_basic_auth", "alert_urls", "deadman_url"}


@pytest.mark.parametrize("text", ['alert_url = "pa55word"', 'server_url = "https://u:pa55word@host"'])
def test_value_that_may_be_a_secret_is_not_shown(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        load_settings()
    assert "pa55word" not in str(refused.value)


def test_environment_that_is_handed_on_gives_the_same_settings(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(
        'heartbeat_seconds = 2.5\ndeploy_approval = false\nbackup_roots = ["/a", "b"]\nallowed_hosts = ["a", "b"]\n'
    )
    monkeypatch.setenv("OPS_DATABASE_URL", "postgresql://u:pa55word@h/d")
    before = load_settings()
    handed = as_environment(before)
    assert "pa55word" not in str(handed)
    for name, text in handed.items():
        monkeypatch.setenv(name, text)
    file.write_text("this is edited = ")
    assert load_settings() == before


def test_old_name_is_taken_with_a_warning(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text('server_url = "https://new.example.org"')
    monkeypatch.setenv("OPS_PREFECT_UI_URL", "https://old.example.org/")
    assert load_settings().server_url == "https://old.example.org"
    assert "OPS_PREFECT_UI_URL has become OPS_SERVER_URL" in capsys.readouterr().err
    monkeypatch.setenv("OPS_SERVER_URL", "https://newest.example.org")
    assert load_settings().server_url == "https://newest.example.org"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "address",
    [
        "ops.example.org",
        "ftp://a",
        "https://",
        "https://a b",
        "https://a/../b",
        "https://a:x",
        "https://a?b",
        "https://u@a",
    ],
)
def test_address_that_is_none_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("OPS_SERVER_URL", address)
    with pytest.raises(UsageError, match="OPS_SERVER_URL: expected http://host or https://host"):
        load_settings()
