"""What the settings refuse before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opsdb.errors import UsageError
from opsdb.settings import load_settings
from tests.support.programs import needs_root

NOBODY = 65534


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a room that ran here."""
    made = tmp_path / "room"
    for name in ("log", "backups", "prefect/ui"):
        (made / name).mkdir(parents=True)
    monkeypatch.setenv("OPS_HOME", str(made))
    return made


def test_home_of_ours_alone_is_taken(home: Path) -> None:
    assert load_settings().home == home
    home.chmod(0o755)
    assert load_settings().home == home


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("5433", ("127.0.0.1", 5433)),
        ("localhost:5433", ("127.0.0.1", 5433)),
        ("127.0.0.2:5432", ("127.0.0.2", 5432)),
        ("[::1]:5433", ("::1", 5433)),
    ],
)
def test_port_of_the_database_is_one_of_loopback(
    home: Path, monkeypatch: pytest.MonkeyPatch, listen: str, address: tuple[str, int]
) -> None:
    monkeypatch.setenv("OPS_DATABASE_LISTEN", listen)
    assert load_settings().database_address == address


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:5433", "10.0.0.1:5433", "*", "*:5433", "0", "70000", "127.0.0.1", "::1:5433", "127.0.0.999:1"]
)
def test_port_of_the_database_that_others_reach_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, listen: str
) -> None:
    monkeypatch.setenv("OPS_DATABASE_LISTEN", listen)
    with pytest.raises(UsageError, match=r"OPS_DATABASE_LISTEN: .* is not a port of loopback"):
        load_settings()


def test_port_of_the_database_is_for_the_embedded_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_DATABASE_LISTEN", "5433")
    monkeypatch.setenv("OPS_DATABASE_URL", "postgresql://ops@db.example.org/ops")
    with pytest.raises(UsageError, match="OPS_DATABASE_LISTEN is for the embedded PostgreSQL"):
        load_settings()


def test_home_that_is_not_there_yet_is_taken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_HOME", str(home / "new"))
    assert load_settings().home == home / "new"


@pytest.mark.parametrize("name", ["", "log", "backups", "prefect", "prefect/ui"])
def test_home_where_others_write_is_refused(home: Path, name: str) -> None:
    (home / name).chmod(0o777)
    with pytest.raises(UsageError, match=f"OPS_HOME={home} is not this user's alone: everybody may write to"):
        load_settings()


def test_home_below_a_folder_where_others_write_is_refused(home: Path) -> None:
    home.parent.chmod(0o777)
    with pytest.raises(UsageError, match=f"everybody may write to {home.parent}"):
        load_settings()


@needs_root
@pytest.mark.parametrize("name", ["", "log", "prefect/ui"])
def test_home_that_another_user_prepared_is_refused(home: Path, name: str) -> None:
    os.chown(home / name, NOBODY, NOBODY)
    with pytest.raises(UsageError, match="belongs to nobody"):
        load_settings()


def test_link_in_the_home_is_judged_by_where_it_leads(home: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (home / "logs").symlink_to(tmp_path / "disk")
    load_settings()
    (tmp_path / "disk").chmod(0o777)
    with pytest.raises(UsageError, match=f"everybody may write to {tmp_path}/disk"):
        load_settings()


@pytest.mark.parametrize("value", ["backups", "/srv/../etc", "/srv:backups"])
def test_roots_are_absolute(value: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_BACKUP_ROOTS", value)
    with pytest.raises(UsageError, match=r"OPS_BACKUP_ROOTS.*expected absolute paths"):
        load_settings()


def test_roots_stand_between_colons(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_BACKUP_ROOTS", "/srv/one:/srv/two:")
    assert load_settings().backup_folders == (home / "backups", Path("/srv/one"), Path("/srv/two"))


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.0.0.5", "172.16.3.4", "192.168.1.1", "100.64.0.9", "fd00::2"]
)
def test_health_may_be_on_loopback_or_a_private_address(
    home: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("OPS_HEALTH_ADDRESS", address)
    assert load_settings().health_address == address


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "::", "203.0.113.7", "8.8.8.8", "2001:db8::1", "localhost", "10.0.0.5:3000"],  # noqa: S104  # refused
)
def test_health_is_on_no_address_that_others_reach(home: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """It has neither TLS nor a password, and shows why a database is away."""
    monkeypatch.setenv("OPS_HEALTH_ADDRESS", address)
    with pytest.raises(
        UsageError, match=r"OPS_HEALTH_ADDRESS: expected an IP address of loopback or of a private network"
    ):
        load_settings()
