"""Two rooms that claim one bucket in the same moment, at a store that knows conditions and at one that does not."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from blocks.bucket_upload import Upload
from blocks.checksums import Sums, sums_of
from blocks.target_bucket import BucketStore
from blocks.target_store import TargetError
from flows.offsite.owner import FILE, NotOursError, read_owner, take_ownership
from tests.support.bucket_server import BucketServer
from tests.support.target_race import claim_at_once, overtake


@pytest.fixture
def store(buckets: BucketServer, bucket: str) -> Callable[[], BucketStore]:
    """Makes one for each room."""
    return lambda: buckets.store(bucket)


@pytest.mark.gate
@pytest.mark.parametrize("at", [1, 2])  # the look for a claim, and the one before it is written
def test_room_that_is_overtaken_is_refused(
    store: Callable[[], BucketStore], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    overtake(BucketStore, at, lambda: take_ownership(store(), "theirs"), monkeypatch)
    with pytest.raises(NotOursError, match="belongs to another room"):
        take_ownership(store(), "ours")
    found = read_owner(store())
    assert found is not None
    assert found.room == "theirs"


def test_of_two_rooms_that_claim_at_once_one_has_the_bucket(store: Callable[[], BucketStore]) -> None:
    claim_at_once(store)
    assert set(store().sizes()) == {FILE}


@pytest.mark.gate
def test_store_that_takes_both_claims_is_asked_again_and_one_room_has_it(
    store: Callable[[], BucketStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived, both_looked = itertools.count(1), threading.Event()

    def send(upload: Upload, size_bytes: int) -> Sums:
        number = next(arrived)
        if number == 1:
            both_looked.wait(10)
        if number == 2:
            both_looked.set()
            time.sleep(0.5)  # so the first has written, and looked whether it arrived
        upload.requests.ask("put_object", **upload.where, Body=upload.file.read_bytes())
        return sums_of(upload.file, size_bytes)

    monkeypatch.setattr(Upload, "_send_whole", send)
    claim_at_once(store)


@pytest.mark.parametrize(
    "answer",
    [
        {"Error": {"Code": "NotImplemented"}},
        {"Error": {"Code": "501"}, "ResponseMetadata": {"HTTPStatusCode": 501}},  # without a body
        {"Error": {"Code": "InvalidRequest"}, "ResponseMetadata": {"HTTPStatusCode": 400}},
    ],
)
def test_store_that_refuses_conditions_gets_none(
    store: Callable[[], BucketStore], answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = store()
    really, asked = ours._client.put_object, list[bool]()

    def put_object(**request: Any) -> Any:
        asked.append("IfNoneMatch" in request)
        if asked[-1]:
            raise ClientError(answer, "PutObject")
        return really(**request)

    monkeypatch.setattr(ours._client, "put_object", put_object)
    take_ownership(ours, "ours")
    assert (asked[0], asked[-1], asked.count(False)) == (True, False, 1)
    with pytest.raises(NotOursError):
        take_ownership(store(), "theirs")


def test_object_that_came_meanwhile_is_neither_overwritten_nor_deleted(
    store: Callable[[], BucketStore], buckets: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, ours = tmp_path / "some.dump", store()
    file.write_bytes(b"ours")

    def come() -> None:
        buckets.client().put_object(Bucket=ours.bucket, Key=f"odoo/{file.name}", Body=b"theirs")

    overtake(BucketStore, 1, come, monkeypatch)
    with pytest.raises(TargetError, match="already exists with other content"):
        ours.put(file, sha256=hashlib.sha256(b"ours").hexdigest())
    assert ours.read(file.name) == b"theirs"
