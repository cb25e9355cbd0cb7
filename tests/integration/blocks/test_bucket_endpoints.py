"""Addresses of stores: with a path, with signs that URLs write otherwise, and those where no store is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from blocks.backup_target import BackupTarget
from blocks.target_store import TargetError
from tests.integration.blocks.refusing_stores import KIBIBYTE, make
from tests.support.picky_store import KEY_ID, SECRET, PickyStore

pytestmark = pytest.mark.usefixtures("small_parts", "one_session", "names_lead_here")


@pytest.mark.parametrize("path", ["/storage/v1/s3", pytest.param("", marks=pytest.mark.gate)])
@pytest.mark.parametrize(
    ("bucket", "prefix"),
    [("my.own-backups.2026", "room_1/a=b.c-d"), pytest.param("backups", "", marks=pytest.mark.gate)],
)
def test_endpoint_with_a_path_is_asked_below_it_with_the_signature_of_the_whole_path(
    serve: Callable[..., PickyStore], tmp_path: Path, path: str, bucket: str, prefix: str
) -> None:
    there = serve(path=path, bucket=bucket)
    block = BackupTarget(
        bucket=bucket,
        endpoint_url=f"http://127.0.0.1:{there.port}{path}/",
        prefix=prefix,
        access_key_id=KEY_ID,
        secret_access_key=SECRET,
    )
    store = block.store()
    for kibibytes in (10, 300):
        file, sha256 = make(tmp_path, kibibytes, f"{kibibytes}.dump")
        assert store.put(file, sha256=sha256)
        store.get(file.name, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == file.read_bytes()
    folder = f"{prefix}/" if prefix else ""
    assert set(there.objects) == {f"{folder}10.dump", f"{folder}300.dump"}
    assert {one.bucket for one in there.asked} == {bucket}
    assert store.place == f"bucket {bucket} at http://127.0.0.1:{there.port}{path}"
    assert store.url("a.dump") == f"s3://{bucket}/{folder}a.dump"
    assert [check.advice for check in block.check()] == ["", "", ""]


@pytest.mark.gate
def test_name_with_a_sign_that_urls_write_otherwise_is_signed_as_it_is_sent(
    serve: Callable[..., PickyStore], tmp_path: Path
) -> None:
    there = serve(path="/storage/v1/s3")
    store = there.store(prefix="a b/ü+&=%2F~(1)")
    file, sha256 = make(tmp_path, 300, "c d+ö.dump")
    assert store.put(file, sha256=sha256)
    assert set(there.objects) == {"odoo/c d+ö.dump".replace("odoo", "a b/ü+&=%2F~(1)")}
    assert store.sizes() == {file.name: 300 * KIBIBYTE}
    assert store.sha256(file.name) == sha256


@pytest.mark.gate
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            "<html><p>Welcome</p></html>",
            "what answers for bucket backups is not an S3-compatible store: correct endpoint_url",
        ),
        (
            "<html><p>Welcome</html>",
            "cannot answer now .HTTP 500.: try again later; if that lasts, correct endpoint",
        ),
        ('{"message": "Hello"}', "cannot answer now .HTTP 500.: try again later; if that lasts, correct endpoint"),
    ],
)
def test_web_page_is_not_taken_for_an_empty_bucket(
    serve: Callable[..., PickyStore], answer: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = serve()
    monkeypatch.setattr(there, "answer", lambda _asked: ({}, answer.encode()))
    for ask in (there.store().look, there.store().sizes):
        with pytest.raises(TargetError, match=message):
            ask()


@pytest.mark.gate
def test_endpoint_that_lacks_its_path_is_told_so(serve: Callable[..., PickyStore]) -> None:
    there = serve(path="/storage/v1/s3")
    with pytest.raises(TargetError, match=r"does not exist \(HTTP 404\): make the bucket, or correct bucket and end"):
        there.store(endpoint_url=f"http://127.0.0.1:{there.port}").look()
