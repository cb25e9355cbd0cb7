"""The room's secrets and how processes reach Prefect."""

from __future__ import annotations

import json
import os
import ssl
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr

from deployments.server import access
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.settings import Settings


@pytest.fixture
def room(tmp_path: Path) -> Settings:
    """A room that never started."""
    return Settings(home=tmp_path / "home")


def test_secrets_are_generated_once_and_readable_by_the_owner_alone(room: Settings) -> None:
    first = access.make_secrets(room)
    assert access.make_secrets(room) == first == access.read_secrets(room)
    assert stat.S_IMODE(access.secrets_path(room).stat().st_mode) == 0o600
    assert first.prefect_auth_string.startswith("ops:")
    assert [path.name for path in room.home.iterdir()] == ["secrets.json"]


def test_secrets_differ_between_rooms_and_hide_in_a_repr(room: Settings, tmp_path: Path) -> None:
    one, other = access.make_secrets(room), access.make_secrets(Settings(home=tmp_path / "other"))
    assert one.prefect_auth_string != other.prefect_auth_string
    assert one.prefect_encryption_key != other.prefect_encryption_key
    assert one.prefect_auth_string not in repr(one)
    assert one.prefect_encryption_key not in repr(one)


def test_encryption_key_is_one_that_fernet_takes(room: Settings) -> None:
    from cryptography.fernet import Fernet

    key = Fernet(access.make_secrets(room).prefect_encryption_key)
    assert key.decrypt(key.encrypt(b"block")) == b"block"


def test_secrets_of_a_room_that_never_started_say_how_to_start_it(room: Settings) -> None:
    for call in (access.read_secrets, access.client_env, access.use):
        with pytest.raises(RoomUnreachableError, match="ops up"):
            call(room)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660])
def test_secrets_with_wider_permissions_are_refused(room: Settings, mode: int) -> None:
    access.make_secrets(room)
    access.secrets_path(room).chmod(mode)
    with pytest.raises(UsageError, match="chmod 600"):
        access.make_secrets(room)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"prefect_auth_string": "ops:abc", "prefect_encryption_key": "x"}',
        '{"prefect_auth_string": "ops:a-long-enough-password", "prefect_encryption_key": "too-short-a-key="}',
        '{"prefect_auth_string": "a-long-enough-password", "prefect_encryption_key": null}',
    ],
)
def test_broken_secrets_are_refused_and_kept(room: Settings, text: str) -> None:
    path = access.secrets_path(room)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="broken") as caught:
        access.make_secrets(room)
    assert "password" not in str(caught.value)
    assert path.read_text() == text


def test_secrets_behind_a_symbolic_link_are_refused(room: Settings, tmp_path: Path) -> None:
    room.home.mkdir()
    access.secrets_path(room).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="cannot be read"):
        access.make_secrets(room)
    assert not (tmp_path / "elsewhere").exists()


def test_server_listens_on_loopback_with_auth_csrf_and_its_own_origin(room: Settings) -> None:
    secrets = access.make_secrets(room)
    env = access.server_env(room)
    assert env["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert env["PREFECT_SERVER_API_AUTH_STRING"] == secrets.prefect_auth_string
    assert env["PREFECT_SERVER_ENCRYPTION_KEY"] == secrets.prefect_encryption_key
    assert env["PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED"] == "true"
    assert env["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200,http://localhost:4200"


def test_clients_load_one_authority_and_not_those_of_the_web(room: Settings) -> None:
    access.make_secrets(room)
    file = access.client_env(room)["PREFECT_API_SSL_CERT_FILE"]
    assert len(ssl.create_default_context(cafile=file).get_ca_certs()) == 1


def test_prefect_knows_every_setting_that_is_handed_to_it(room: Settings) -> None:
    access.make_secrets(room)
    names = {*access.server_env(room), *access.client_env(room)} - {"PREFECT_SERVER_ENCRYPTION_KEY"}
    code = (
        "import sys, prefect.settings as s; "
        "from prefect.settings.legacy import _get_settings_fields as f; "
        "print(*set(sys.argv[1:]) - set(f(s.Settings)))"
    )
    wanted = [name for name in names if name.startswith("PREFECT_")]
    done = subprocess.run([sys.executable, "-c", code, *wanted], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("url", "expected", "tls"),
    [
        (None, "postgresql+asyncpg://postgres@/prefect?host={home}/postgres/socket", {}),
        ("postgresql://u:p%40ss@db:6432/ops", "postgresql+asyncpg://u:p%40ss@db:6432/prefect", {}),
        (
            "postgresql://u@db/ops?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=3",
            "postgresql+asyncpg://u@db/prefect?ssl=verify-full",
            {"PGSSLROOTCERT": "/ca.pem"},
        ),
    ],
)
def test_prefect_database_is_on_the_same_server(
    room: Settings, url: str | None, expected: str, tls: dict[str, str]
) -> None:
    settings = room.model_copy(update={"database_url": SecretStr(url) if url else None})
    found, found_tls = access.prefect_database_url(settings)
    assert found.replace("%2F", "/") == expected.format(home=room.home)
    assert found_tls == tls


def test_database_parameter_that_prefect_cannot_take_is_named_without_the_url(room: Settings) -> None:
    settings = room.model_copy(update={"database_url": SecretStr("postgresql://u:geheim@db/ops?options=-cfoo")})
    with pytest.raises(UsageError, match="`options`") as caught:
        access.prefect_database_url(settings)
    assert "geheim" not in str(caught.value)


def test_use_points_the_process_at_the_room_and_away_from_any_other(
    room: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = access.make_secrets(room)
    for name in access.FOREIGN:
        monkeypatch.setenv(name, "elsewhere")
    for name in access.client_env(room):  # so that monkeypatch puts back what `use` changes
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("NO_PROXY", "internal.example")
    access.use(room)
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert os.environ["PREFECT_API_AUTH_STRING"] == secrets.prefect_auth_string
    assert os.environ["NO_PROXY"] == "internal.example,127.0.0.1,localhost"
    assert {name for name in access.FOREIGN if name in os.environ} == {"PREFECT_API_URL"}


def test_deploy_that_changes_nothing_imports_no_sqlalchemy() -> None:
    modules = "cli.deploy, deployments.server.access, deployments.server.unchanged, flows.backup.odoo_databases"
    code = f"import sys, {modules}; print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_access_does_not_import_prefect() -> None:
    code = "import sys, deployments.server.access, deployments.room.room; print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_profile_reaches_the_room_and_keeps_other_profiles(room: Settings) -> None:
    access.make_secrets(room)
    path = room.home / "prefect" / "profiles.toml"
    path.parent.mkdir()
    path.write_text('active = "cloud"\n[profiles.cloud]\nPREFECT_API_URL = "https://example.com"\n')
    access.write_profile(room)
    access.write_profile(room)
    found = tomllib.loads(path.read_text())
    assert found["active"] == "room"
    assert found["profiles"]["cloud"] == {"PREFECT_API_URL": "https://example.com"}
    assert found["profiles"]["room"]["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert found["profiles"]["room"]["PREFECT_API_AUTH_STRING"] == access.read_secrets(room).prefect_auth_string
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_new_password_keeps_the_encryption_key_and_reaches_the_profile(room: Settings) -> None:
    before = access.make_secrets(room)
    access.write_profile(room)
    after = access.renew_password(room)
    assert after == access.read_secrets(room)
    assert after.prefect_auth_string != before.prefect_auth_string
    assert after.prefect_encryption_key == before.prefect_encryption_key
    assert stat.S_IMODE(access.secrets_path(room).stat().st_mode) == 0o600
    profile = tomllib.loads((room.home / "prefect" / "profiles.toml").read_text())["profiles"]["room"]
    assert profile["PREFECT_API_AUTH_STRING"] == after.prefect_auth_string
    assert sorted(path.name for path in room.home.iterdir()) == ["prefect", "secrets.json"]


def test_new_password_that_cannot_be_written_leaves_the_old_one(
    room: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = access.make_secrets(room)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        access.renew_password(room)
    assert access.read_secrets(room) == before
    assert [path.name for path in room.home.iterdir()] == ["secrets.json"]


def test_every_address_of_ours_is_literal(room: Settings) -> None:
    # `localhost` is ::1 as well, where somebody else may listen while the room does not run
    access.make_secrets(room)
    access.write_profile(room)
    profile = tomllib.loads((room.home / "prefect" / "profiles.toml").read_text())["profiles"]["room"]
    for env in (access.client_env(room), access.server_env(room), profile):
        addresses = {name: value for name, value in env.items() if name.endswith("_URL") and "http" in value}
        assert set(addresses.values()) <= {"http://127.0.0.1:4200/api"}
    assert room.server_address == access.ui_url(room) == "http://127.0.0.1:4200"


def test_two_first_starts_agree_on_one_set_of_secrets(room: Settings) -> None:
    code = (
        "import sys, json; from deployments.server import access; from opsdb.settings import Settings; "
        "print(json.dumps(access.make_secrets(Settings(home=sys.argv[1])).prefect_auth_string))"
    )
    command = [sys.executable, "-c", code, str(room.home)]
    starts = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {json.loads(start.communicate(timeout=30)[0]) for start in starts}
    assert answers == {access.read_secrets(room).prefect_auth_string}
