"""A bucket as a backup target, on a real S3-compatible server behind a line that fails."""

from __future__ import annotations

import hashlib
import io
import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blocks import checksums, target_bucket
from blocks.target_bucket import BucketStore
from blocks.target_store import TargetAwayError, TargetError
from tests.support.bucket_server import BucketServer
from tests.support.tcp_proxy import TcpProxy

KIBIBYTE = 1024


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "PART_BYTES", 64 * KIBIBYTE)
    monkeypatch.setattr(checksums, "_MEBIBYTE", 1)


@pytest.fixture
def store(buckets: BucketServer, bucket: str) -> BucketStore:
    return buckets.store(bucket)


@pytest.fixture
def proxy(buckets: BucketServer) -> Iterator[TcpProxy]:
    with TcpProxy(buckets.port) as proxy:
        yield proxy


def through(proxy: TcpProxy, store: BucketStore) -> BucketStore:
    return replace(store, endpoint_url=f"http://127.0.0.1:{proxy.port}")


def make(folder: Path, kibibytes: float, name: str = "some.dump") -> tuple[Path, str]:
    file = folder / name
    file.write_bytes(random.Random(kibibytes).randbytes(int(kibibytes * KIBIBYTE)))
    return file, hashlib.sha256(file.read_bytes()).hexdigest()


def objects(buckets: BucketServer, store: BucketStore) -> dict[str, bytes]:
    client = buckets.client()
    found = client.list_objects_v2(Bucket=store.bucket).get("Contents", [])
    return {one["Key"]: client.get_object(Bucket=store.bucket, Key=one["Key"])["Body"].read() for one in found}


def unfinished(buckets: BucketServer, store: BucketStore) -> list[str]:
    return [one["Key"] for one in buckets.client().list_multipart_uploads(Bucket=store.bucket).get("Uploads", [])]


@pytest.mark.parametrize("kibibytes", [0.001, 63, 64, 65, 64 * 7, 1000])
def test_file_arrives_as_it_is_and_comes_back(
    store: BucketStore, buckets: BucketServer, tmp_path: Path, kibibytes: float
) -> None:
    file, sha256 = make(tmp_path, kibibytes)
    told: list[int] = []
    assert store.put(file, sha256=sha256, tell=told.append)
    assert objects(buckets, store) == {"odoo/some.dump": file.read_bytes()}
    assert told == sorted(told)
    assert told[-1] == file.stat().st_size == store.sizes()["some.dump"]
    store.get("some.dump", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    assert store.sha256("some.dump") == sha256
    assert unfinished(buckets, store) == []


def test_what_the_store_says_is_enough_and_nothing_is_read_back(
    store: BucketStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BucketStore, "sha256", lambda *_: pytest.fail("it was read back"))
    for kibibytes in (10, 200):
        file, sha256 = make(tmp_path, kibibytes, f"{kibibytes}.dump")
        assert store.put(file, sha256=sha256)


def test_store_that_says_nothing_of_use_is_read_back(
    store: BucketStore, buckets: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    really = BucketStore.sha256
    monkeypatch.setattr(checksums.Sums, "proof", lambda *_, **__: None)

    def noted(self: BucketStore, name: str) -> str:
        read.append(name)
        return really(self, name)

    monkeypatch.setattr(BucketStore, "sha256", noted)
    file, sha256 = make(tmp_path, 200)
    assert store.put(file, sha256=sha256)
    assert read == ["some.dump"]
    monkeypatch.setattr(BucketStore, "sha256", lambda *_: "0" * 64)
    other, sha256 = make(tmp_path, 100, "other.dump")
    with pytest.raises(TargetError, match="did not arrive as it was sent"):
        store.put(other, sha256=sha256)
    assert list(objects(buckets, store)) == ["odoo/some.dump"]


def test_same_file_is_skipped_and_another_is_never_overwritten(
    store: BucketStore, buckets: BucketServer, tmp_path: Path
) -> None:
    file, sha256 = make(tmp_path, 200)
    assert store.put(file, sha256=sha256)
    assert not store.put(file, sha256=sha256)
    before = objects(buckets, store)
    file, sha256 = make(tmp_path, 200.5)
    with pytest.raises(TargetError, match="already exists with other content"):
        store.put(file, sha256=sha256)
    assert objects(buckets, store) == before


@pytest.mark.parametrize("kibibytes", [60, 500])
def test_byte_that_flipped_on_the_way_is_found_and_nothing_stays(
    store: BucketStore, buckets: BucketServer, tmp_path: Path, proxy: TcpProxy, kibibytes: int
) -> None:
    file, sha256 = make(tmp_path, kibibytes)
    proxy.flip_at = kibibytes * KIBIBYTE // 2
    with pytest.raises(TargetError, match="did not arrive as it was sent"):
        through(proxy, store).put(file, sha256=sha256)
    assert objects(buckets, store) == {}
    assert unfinished(buckets, store) == []
    assert store.put(file, sha256=sha256)


def test_upload_that_is_cut_in_the_middle_leaves_no_object_and_the_next_drops_its_parts(
    store: BucketStore, buckets: BucketServer, tmp_path: Path, proxy: TcpProxy
) -> None:
    file, sha256 = make(tmp_path, 1000)
    foreign = buckets.client().create_multipart_upload(Bucket=store.bucket, Key="odoo/theirs")["UploadId"]
    proxy.cut_after = 400 * KIBIBYTE
    with pytest.raises(TargetAwayError, match="does not answer"):
        through(proxy, store).put(file, sha256=sha256)
    assert objects(buckets, store) == {}
    assert sorted(unfinished(buckets, store)) == ["odoo/some.dump", "odoo/theirs"]  # the cut kept it from tidying up
    assert store.drop_unfinished(lambda name: name == "some.dump") == ["some.dump"]
    assert unfinished(buckets, store) == ["odoo/theirs"]
    buckets.client().abort_multipart_upload(Bucket=store.bucket, Key="odoo/theirs", UploadId=foreign)


def test_file_that_is_damaged_here_is_not_sent(store: BucketStore, buckets: BucketServer, tmp_path: Path) -> None:
    for kibibytes in (10, 200):
        file, _ = make(tmp_path, kibibytes)
        with pytest.raises(TargetError, match="is damaged: its sha256"):
            store.put(file, sha256="0" * 64)
    assert objects(buckets, store) == {}
    assert unfinished(buckets, store) == []


def test_only_files_directly_under_the_prefix_are_ours(store: BucketStore, buckets: BucketServer) -> None:
    for key in ("odoo/a", "odoo/deep/a", "odoo-other/a", "a", "odoo/"):
        buckets.client().put_object(Bucket=store.bucket, Key=key, Body=b"x")
    assert store.sizes() == {"a": 1}
    assert buckets.store(store.bucket, prefix="").sizes() == {"a": 1}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"secret_access_key": "not-the-secret-of-it"}, "refused the keys .SignatureDoesNotMatch, HTTP 403.: correct"),
        ({"access_key_id": "AKIANOBODYKNOWSME"}, "refused the keys .InvalidAccessKeyId, HTTP 403.: correct"),
        ({"bucket": "not-there"}, "bucket not-there at .* does not exist .NoSuchBucket, HTTP 404.: make the bucket"),
    ],
)
def test_refusal_says_what_is_wrong_and_what_to_do_and_no_key(
    store: BucketStore, buckets: BucketServer, wrong: dict[str, Any], message: str
) -> None:
    other = replace(store, **wrong)
    with pytest.raises(TargetError, match=message) as caught:
        other.look()
    assert not isinstance(caught.value, TargetAwayError)
    assert other.access_key_id not in str(caught.value)
    assert other.secret_access_key not in str(caught.value)


def test_store_that_is_not_there_is_away(store: BucketStore, proxy: TcpProxy) -> None:
    other = through(proxy, store)
    proxy.__exit__()
    with pytest.raises(TargetAwayError, match=r"does not answer \(EndpointConnectionError\)"):
        other.look()


def test_no_key_is_in_a_log_however_loud_it_is(
    store: BucketStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", logging.DEBUG)
    root.addHandler(handler)
    try:
        file, sha256 = make(tmp_path, 200)
        store.put(file, sha256=sha256)
        with pytest.raises(TargetError):
            replace(store, bucket="not-there").look()
    finally:
        root.removeHandler(handler)
    assert store.access_key_id not in said.getvalue()
    assert "Signature" not in said.getvalue()
    assert store.secret_access_key not in repr(store)
    assert target_bucket.SECRET_ACCESS_KEY not in store.public
