"""Stores that refuse parts of S3: what arrives there all the same, what proves it, and what is told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.backup_target import BackupTarget
from blocks.target_store import TargetAwayError, TargetError
from tests.integration.blocks.refusing_stores import CREATE, IN_TEST, KIBIBYTE, PART, STORES, Case, forbidden, make
from tests.support.picky_store import KEY_ID, SECRET, Kept, PickyStore
from tests.support.store_manners import Manners, Refusal

pytestmark = pytest.mark.usefixtures("small_parts", "one_session", "names_lead_here")
every_store = pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case(*case), id=name, marks=[] if name in IN_TEST else pytest.mark.gate)
        for name, case in STORES.items()
    ],
)


@every_store
def test_files_arrive_once_by_what_the_store_knows_and_the_proof_is_told(
    serve: Callable[..., PickyStore], tmp_path: Path, case: Case
) -> None:
    there = serve(case.manners)
    store = there.store()
    files = {kibibytes: make(tmp_path, kibibytes, f"{kibibytes}.dump") for kibibytes in (10, 300)}
    assert all(store.put(file, sha256=sha256) for file, sha256 in files.values())
    assert store.proofs == tuple(dict.fromkeys([case.small, case.large]))
    refused = len(there.refused)
    more = [make(tmp_path, kibibytes, f"{kibibytes}-too.dump") for kibibytes in (10, 300)]
    assert all(store.put(file, sha256=sha256) for file, sha256 in more)
    assert there.refused[refused:] == []  # it was found once
    contents = {f"odoo/{file.name}": file.read_bytes() for file, _ in (*files.values(), *more)}
    assert {key: kept.body for key, kept in there.objects.items()} == contents
    assert store.sizes("300") == {"300.dump": 300 * KIBIBYTE, "300-too.dump": 300 * KIBIBYTE}
    file, sha256 = files[300]
    store.get(file.name, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    assert store.sha256(file.name) == sha256
    assert not any("chunked" in f"{one.headers.get('content-encoding')}".lower() for one in there.asked)
    assert not any(one.headers["x-amz-content-sha256"].startswith("STREAMING") for one in there.asked)

    later = there.store()
    for file, sha256 in files.values():
        assert not later.put(file, sha256=sha256)
        file.write_bytes(file.read_bytes()[::-1])
        with pytest.raises(TargetError, match="already exists with other content: nothing was overwritten"):
            later.put(file, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    assert {key: kept.body for key, kept in there.objects.items()} == contents


@pytest.mark.gate
@pytest.mark.parametrize("name", ["knows all", "ranges", "ranges ignored", "all of that"])
@pytest.mark.parametrize("kibibytes", [0, 20_000])
def test_file_of_many_ranges_comes_back_whole(
    serve: Callable[..., PickyStore], tmp_path: Path, name: str, kibibytes: int
) -> None:
    there = serve(STORES[name][0])
    file, _ = make(tmp_path, kibibytes, "a.dump")
    there.objects["odoo/a.dump"] = Kept(file.read_bytes(), '"etag"')
    told: list[int] = []
    there.store().get("a.dump", tmp_path / "back", tell=told.append)
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    assert max(told, default=0) == kibibytes * KIBIBYTE


@every_store
def test_bit_that_such_a_store_flips_is_found_and_nothing_stays(
    serve: Callable[..., PickyStore], tmp_path: Path, case: Case
) -> None:
    there = serve(replace(case.manners, damages=True))
    store = there.store()
    for kibibytes in (10, 300):
        file, sha256 = make(tmp_path, kibibytes, f"{kibibytes}.dump")
        with pytest.raises(TargetError, match="did not arrive as it was sent"):
            store.put(file, sha256=sha256)
    assert there.objects == {}
    assert not there.unfinished or ("AbortMultipartUpload", "") in there.refused


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        pytest.param(
            Refusal(CREATE),
            r"does not know CreateMultipartUpload \(NotImplemented, HTTP 501\): files of more than 16 MiB are sent in",
        ),
        pytest.param(
            Refusal(PART, "", 400, "InvalidArgument"),
            r"refused UploadPart \(InvalidArgument, HTTP 400\), however it was asked: see what",
            marks=pytest.mark.gate,
        ),
        pytest.param(
            forbidden(PART),
            r"does not allow these keys to do that \(UploadPart: AccessDenied, HTTP 403\): let them",
            marks=pytest.mark.gate,
        ),
        pytest.param(
            Refusal("", "", 501),
            r"does not know ListObjects \(NotImplemented, HTTP 501\): correct endpoint_url",
            marks=pytest.mark.gate,
        ),
        pytest.param(
            Refusal("", "", 403, "SecondLevelDomainForbidden"),
            r"needs the bucket in the host's name \(SecondLevelDomainForbidden, HTTP 403\): give endpoint_url",
            marks=pytest.mark.gate,
        ),
    ],
)
def test_what_cannot_be_done_without_is_named_with_what_to_set(
    serve: Callable[..., PickyStore], tmp_path: Path, refusal: Refusal, message: str
) -> None:
    there = serve(Manners((refusal,)), path="/s3")
    file, sha256 = make(tmp_path, 300, "a.dump")
    with pytest.raises(TargetError, match=f"^bucket backups at http://127.0.0.1:{there.port}/s3 {message}") as caught:
        there.store().put(file, sha256=sha256)
    assert not isinstance(caught.value, TargetAwayError)
    assert "A header you provided" not in str(caught.value)
    assert (there.objects, there.unfinished) == ({}, {})


@pytest.mark.parametrize(
    ("name", "whole", "parts", "refused"),
    [
        pytest.param("knows all", "sha256", "sha256", [], marks=pytest.mark.gate),
        pytest.param(
            "sums of large objects",
            "sha256",
            "md5",
            ["x-amz-checksum-algorithm at CreateMultipartUpload (NotImplemented, HTTP 501)"],
            marks=pytest.mark.gate,
        ),
        pytest.param(
            "unfinished uploads, 403",
            "sha256",
            "sha256",
            ["ListMultipartUploads (AccessDenied, HTTP 403): let a rule of the bucket delete incomplete uploads"],
            marks=pytest.mark.gate,
        ),
        (
            "condition",
            "sha256",
            "sha256",
            [
                f"If-None-Match at {operation} (NotImplemented, HTTP 501): a file of that name is looked for just "
                "before each upload ends"
                for operation in ("PutObject", "CompleteMultipartUpload")
            ],
        ),
    ],
)
def test_connection_test_says_what_will_prove_a_copy_and_what_is_refused_and_leaves_nothing(
    serve: Callable[..., PickyStore], name: str, whole: str, parts: str, refused: list[str]
) -> None:
    there = serve(STORES[name][0])
    there.objects["odoo/theirs"] = Kept(b"x", '""')
    checks = block_of(there).check()
    place = f"bucket backups at http://127.0.0.1:{there.port}"
    assert [(check.subject, check.found) for check in checks] == [
        (f"{place}: look", "works"),
        (f"{place}: write, read and delete", f"works; what proves a copy: {whole}"),
        (f"{place}: write in parts, as large files are", f"works; what proves a copy: {parts}"),
        *((f"{place}: done without", one) for one in refused),
    ]
    assert all(check.ok for check in checks)
    assert set(there.objects) == {"odoo/theirs"}
    assert there.unfinished == {}


@pytest.mark.gate
def test_connection_test_of_a_store_without_uploads_in_parts_says_so(serve: Callable[..., PickyStore]) -> None:
    there = serve(Manners((Refusal(CREATE),)))
    *good, bad = block_of(there).check()
    assert [check.ok for check in good] == [True, True]
    assert "does not know CreateMultipartUpload (NotImplemented, HTTP 501)" in bad.found
    assert "use a store that takes those" in bad.advice
    assert there.objects == {}


def block_of(there: PickyStore) -> BackupTarget:
    return BackupTarget(
        bucket="backups",
        endpoint_url=f"http://127.0.0.1:{there.port}",
        prefix="odoo",
        access_key_id=KEY_ID,
        secret_access_key=SECRET,
    )
