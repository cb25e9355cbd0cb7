"""The block of a backup target: what is refused with which words, and what its connection test finds."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from blocks.backup_target import BackupTarget
from blocks.target_bucket import BucketStore
from blocks.target_folder import FolderStore

ID, SECRET = "AKIA-some-id", "a/secret+with=signs"
BUCKET: dict[str, Any] = {
    "bucket": "backups",
    "endpoint_url": "https://sgp1.digitaloceanspaces.com",
    "access_key_id": ID,
    "secret_access_key": SECRET,
}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "fill in either folder or bucket"),
        ({"folder": "/mnt/backups", **BUCKET}, "fill in either folder or bucket"),
        ({"folder": "/mnt/backups", "prefix": "odoo", "access_key_id": ID}, "a folder takes no prefix, access_key_id"),
        ({"folder": "mnt"}, "folder"),
        ({"folder": "/mnt/../etc"}, "folder"),
        ({**BUCKET, "access_key_id": ""}, "a bucket needs access_key_id"),
        ({**BUCKET, "secret_access_key": ""}, "a bucket needs secret_access_key"),
        ({**BUCKET, "secret_access_key": "short"}, "secret_access_key has fewer than 6 characters"),
        ({**BUCKET, "secret_access_key": f"{SECRET}\n"}, "secret_access_key begins or ends with blanks"),
        ({**BUCKET, "access_key_id": f"{ID}\x00{ID}"}, "access_key_id begins or ends with blanks, or holds"),
        ({**BUCKET, "bucket": "Backups"}, "bucket"),
        ({**BUCKET, "prefix": "/odoo"}, "prefix"),
        ({**BUCKET, "prefix": "odoo/../other"}, "prefix"),
        ({**BUCKET, "endpoint_url": "sgp1.digitaloceanspaces.com"}, "expected https://host"),
        ({**BUCKET, "endpoint_url": "https://user:word@host"}, "expected https://host"),
        ({**BUCKET, "endpoint_url": "https://host/v1?list-type=2"}, "without a login, a query"),
        ({**BUCKET, "endpoint_url": "https://host/v1#part"}, "without a login, a query"),
        ({**BUCKET, "endpoint_url": "https://user:word@host/v1"}, "without a login, a query"),
        ({**BUCKET, "endpoint_url": "https://host//v1"}, "no part of the path empty"),
        ({**BUCKET, "endpoint_url": "https://host/v1//"}, "no part of the path empty"),
        ({**BUCKET, "endpoint_url": "https://host/../v1"}, "no part of the path empty or with a dot first"),
        ({**BUCKET, "endpoint_url": "https://host/a%2Fb"}, "a # and %"),
        ({**BUCKET, "endpoint_url": "https://host/v1 "}, "expected https://host"),
        ({**BUCKET, "endpoint_url": "https://host/backups"}, "endpoint_url holds the bucket: expected https://host"),
        (
            {**BUCKET, "endpoint_url": "https://host/v1/backups/"},
            "endpoint_url holds the bucket: expected https://host/v1",
        ),
        ({**BUCKET, "endpoint_url": "https://a..b"}, "expected https://host"),
        ({**BUCKET, "endpoint_url": "https://-host"}, "expected https://host"),
        ({**BUCKET, "endpoint_url": f"https://{'a' * 64}.example"}, "expected https://host"),
        ({**BUCKET, "endpoint_url": "https://host:65536"}, "there is no port above 65535"),
        (
            {**BUCKET, "endpoint_url": "https://backups.sgp1.digitaloceanspaces.com"},
            "expected https://sgp1.digitalocean",
        ),
        ({**BUCKET, "endpoint_url": "http://store.example"}, "whoever is on the way can read the backups"),
    ],
)
def test_what_does_not_fit_together_is_refused_without_a_secret(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        BackupTarget(**fields)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
    assert ID not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "http://localhost", "http://[::1]:9000/", "https://h:1/", ""])
def test_loopback_needs_no_tls(url: str) -> None:
    assert isinstance(BackupTarget(**{**BUCKET, "endpoint_url": url}).store(), BucketStore)


def test_http_is_there_for_who_asks_for_it() -> None:
    assert BackupTarget(**{**BUCKET, "endpoint_url": "http://store.example", "allow_http": True}).store()


def test_store_is_what_the_fields_say() -> None:
    assert BackupTarget(**BUCKET, prefix="odoo/prod/").store() == BucketStore(
        bucket="backups",
        region="us-east-1",
        endpoint_url="https://sgp1.digitaloceanspaces.com",
        prefix="odoo/prod",
        access_key_id=ID,
        secret_access_key=SECRET,
    )
    assert BackupTarget(folder="/mnt/backups/").store() == FolderStore(Path("/mnt/backups"))


@pytest.mark.parametrize("url", ["https://p.supabase.co/storage/v1/s3", "https://p.supabase.co/storage/v1/s3/"])
def test_endpoint_may_have_a_path(url: str) -> None:
    store = BackupTarget(**{**BUCKET, "endpoint_url": url}).store()
    assert isinstance(store, BucketStore)
    assert store.endpoint_url == "https://p.supabase.co/storage/v1/s3"
    assert store.place == "bucket backups at https://p.supabase.co/storage/v1/s3"
    signed = store._client.generate_presigned_url("get_object", Params={"Bucket": "backups", "Key": "odoo/a.dump"})
    assert signed.startswith("https://p.supabase.co/storage/v1/s3/backups/odoo/a.dump?")


def test_keys_are_in_no_text_of_block_or_store() -> None:
    block = BackupTarget(**BUCKET)
    store = block.store()
    for text in (repr(block), str(block), block.model_dump_json(), repr(store), str(store.public), store.place):
        assert SECRET not in text
        assert ID not in text
    assert set(store.secrets.values()) == {ID, SECRET}
    for name in ("boto3", "botocore", "s3transfer", "urllib3"):
        assert logging.getLogger(name).level >= logging.WARNING


def test_connection_test_tries_all_and_leaves_nothing(tmp_path: Path) -> None:
    checks = BackupTarget(folder=str(tmp_path)).check()
    assert [check.ok for check in checks] == [True, True]
    assert checks[1].subject == f"folder {tmp_path}: write, read and delete"
    assert checks[1].found == "works; what proves a copy: read back"
    assert list(tmp_path.iterdir()) == []


def test_connection_test_stops_at_what_is_wrong(tmp_path: Path) -> None:
    (check,) = BackupTarget(folder=str(tmp_path / "not-mounted")).check()
    assert (check.ok, check.advice) == (False, "is the disk mounted?")


def test_connection_test_finds_a_folder_that_keeps_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderStore, "sha256", lambda *_: "0" * 64)
    checks = BackupTarget(folder=str(tmp_path)).check()
    assert [check.ok for check in checks] == [True, False]
    assert list(tmp_path.iterdir()) == []


def test_connection_test_removes_what_killed_ones_left_and_not_what_runs(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    old, young = (f"ops-check-{at:%Y%m%dT%H%M%SZ}-a" for at in (now - timedelta(hours=2), now))
    for name in (old, f".{old}.partial", young, "ops-check", "odoo.dump"):
        (tmp_path / name).touch()
    assert [check.ok for check in BackupTarget(folder=str(tmp_path)).check()] == [True, True]
    assert {path.name for path in tmp_path.iterdir()} == {young, "ops-check", "odoo.dump"}


def test_connection_test_does_not_wait_longer_than_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[BucketStore] = []

    def look(store: BucketStore) -> None:
        asked.append(store)

    monkeypatch.setattr(BucketStore, "look", look)
    monkeypatch.setattr("blocks.backup_target._try_out", lambda _store: "works")
    BackupTarget(**BUCKET).check()
    config: Any = asked[0]._client.meta.config
    assert (config.connect_timeout, config.read_timeout, config.retries["total_max_attempts"]) == (4, 4, 1)
    assert "patient" not in str(asked[0].public)
