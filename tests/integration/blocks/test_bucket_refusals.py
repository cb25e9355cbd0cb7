"""Stores that refuse parts of S3, each as a real one does: what arrives there all the same, and what proves it."""

from __future__ import annotations

import hashlib
import itertools
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from blocks import checksums
from blocks.backup_target import BackupTarget
from blocks.target_bucket import BucketStore
from blocks.target_store import Proof, TargetAwayError, TargetError, silent
from tests.support.picky_server import serving
from tests.support.picky_store import KEY_ID, SECRET, SHA256, Kept, Manners, PickyStore, Refusal, Unfinished

KIBIBYTE = 1024
ALGORITHM, MODE, MD5, CONDITION = "x-amz-checksum-algorithm", "x-amz-checksum-mode", "content-md5", "if-none-match"
PUT, CREATE, PART, COMPLETE, HEAD = (
    "PutObject",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "HeadObject",
)
SUMS = ((PUT, SHA256), (CREATE, ALGORITHM), (PART, SHA256), (HEAD, MODE))


def unsupported(operation: str, word: str) -> Refusal:
    """As Backblaze says it; a HEAD's answer has no body."""
    return Refusal(operation, word, 400, "InvalidArgument", f"Unsupported header '{word}' received for this API call.")


def invalid(operation: str, word: str) -> Refusal:
    return Refusal(operation, word, 400, "InvalidRequest", "Invalid request")


def without_body(operation: str, word: str = "") -> Refusal:
    """As a proxy says it."""
    return Refusal(operation, word, 400, "")


def forbidden(operation: str) -> Refusal:
    return Refusal(operation, "", 403, "AccessDenied", "Access Denied")


ALL_SUMS = tuple(Refusal(*one) for one in SUMS)
STUBBORN = Manners(
    refusals=(
        *ALL_SUMS,
        *(Refusal(operation, MD5) for operation in (PUT, PART)),
        *(Refusal(operation, CONDITION) for operation in (PUT, COMPLETE)),
        *(Refusal(one) for one in (HEAD, "ListObjectsV2", "ListMultipartUploads", "AbortMultipartUpload")),
        Refusal("ListObjects", "delimiter"),
    ),
    etags="opaque",
)
S, M, R = Proof.SHA256, Proof.MD5, Proof.READ_BACK


class Case(NamedTuple):
    """A store, and what proves there that a small and a large file arrived."""

    manners: Manners
    small: Proof
    large: Proof


STORES: dict[str, tuple[Manners, Proof, Proof]] = {
    "knows all": (Manners(), S, S),
    "sums named, as Backblaze": (Manners(tuple(unsupported(*one) for one in SUMS)), M, M),
    "sums, 501": (Manners(ALL_SUMS), M, M),
    "sums, 400 and no name": (Manners(tuple(invalid(*one) for one in SUMS)), M, M),
    "sums, 400 and no body": (Manners(tuple(without_body(*one) for one in SUMS)), M, M),
    "sums of whole objects": (Manners((Refusal(PUT, SHA256),)), M, S),
    "sums of large objects": (Manners((Refusal(CREATE, ALGORITHM),)), S, M),
    "sums of parts": (Manners((Refusal(PART, SHA256),)), S, M),
    "sums of parts that were promised": (Manners((invalid(PART, SHA256),)), S, M),
    "sums of parts that are missed at the end": (Manners((Refusal(PART, SHA256),), lenient=True), S, M),
    "sums in the list of parts": (
        Manners((Refusal(COMPLETE, "ChecksumSHA256", 400, "MalformedXML", "not well-formed"),), sums_in_list=False),
        S,
        S,
    ),
    "question for sums": (Manners((without_body(HEAD, MODE),)), M, M),
    "header taken by a proxy": (Manners(stripped=frozenset({SHA256})), M, M),
    "headers taken by a proxy": (Manners(stripped=frozenset({SHA256, ALGORITHM, MODE, MD5})), M, M),
    "condition taken by a proxy": (Manners(stripped=frozenset({CONDITION})), S, S),
    "sums ignored": (Manners(ignores=frozenset({SHA256, ALGORITHM, MODE})), M, M),
    "sums and MD5 ignored": (Manners(ignores=frozenset({SHA256, ALGORITHM, MODE, MD5})), M, M),
    "sums not told": (Manners(sums="none"), M, M),
    "sums of another kind": (Manners(sums="crc"), M, M),
    "sums of the whole": (Manners(sums="whole"), S, R),
    "ETags that are no MD5": (Manners(etags="opaque"), S, S),
    "no ETags, sums refused": (Manners(ALL_SUMS, etags="none"), R, R),
    "sums and opaque ETags": (Manners(ALL_SUMS, etags="opaque"), R, R),
    "MD5": (Manners((Refusal(PUT, MD5), Refusal(PART, MD5))), S, S),
    "MD5 and sums": (Manners((*ALL_SUMS, Refusal(PUT, MD5), Refusal(PART, MD5))), M, M),
    "condition": (Manners((Refusal(PUT, CONDITION), Refusal(COMPLETE, CONDITION))), S, S),
    "condition of whole objects": (Manners((invalid(PUT, CONDITION),)), S, S),
    "condition of large objects": (Manners((unsupported(COMPLETE, CONDITION),)), S, S),
    "condition and sums": (Manners((*ALL_SUMS, Refusal(PUT, CONDITION), invalid(COMPLETE, CONDITION))), M, M),
    "HEAD, 405": (Manners((Refusal(HEAD, "", 405, "MethodNotAllowed"),)), R, R),
    "HEAD, 403": (Manners((forbidden(HEAD),)), R, R),
    "HEAD, 501": (Manners((Refusal(HEAD),)), R, R),
    "ranges": (Manners((Refusal("GetObject", "range"),)), S, S),
    "newer listing": (Manners((Refusal("ListObjectsV2"),)), S, S),
    "newer listing, 400": (Manners((without_body("ListObjectsV2"),)), S, S),
    "newer listing ignored": (Manners(ignores=frozenset({"list-type"})), S, S),
    "delimiter": (Manners((invalid("ListObjectsV2", "delimiter"),)), S, S),
    "both listings' delimiter": (Manners((Refusal("ListObjectsV2"), Refusal("ListObjects", "delimiter"))), S, S),
    "unfinished uploads": (Manners((Refusal("ListMultipartUploads"), Refusal("AbortMultipartUpload"))), S, S),
    "unfinished uploads, 403": (Manners((forbidden("ListMultipartUploads"), forbidden("AbortMultipartUpload"))), S, S),
    "path style": (Manners(host="store.test"), S, S),
    "all of that": (STUBBORN, R, R),
}
IN_TEST = {"sums named, as Backblaze", "all of that"}
every_store = pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case(*case), id=name, marks=[] if name in IN_TEST else pytest.mark.gate)
        for name, case in STORES.items()
    ],
)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "PART_BYTES", 64 * KIBIBYTE)
    monkeypatch.setattr(checksums, "_MEBIBYTE", 1)


@pytest.fixture(autouse=True)
def names_lead_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends in `.test` is this host."""
    really = socket.getaddrinfo

    def getaddrinfo(host: Any, *more: Any, **other: Any) -> Any:
        return really("127.0.0.1" if str(host).endswith("store.test") else host, *more, **other)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture
def serve() -> Iterator[Callable[..., PickyStore]]:
    with ExitStack() as servers:
        yield lambda *given, **fields: servers.enter_context(serving(PickyStore(*given, **fields)))


def make(folder: Path, kibibytes: int, name: str) -> tuple[Path, str]:
    file = folder / name
    file.write_bytes(random.Random(name).randbytes(kibibytes * KIBIBYTE))
    return file, hashlib.sha256(file.read_bytes()).hexdigest()


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
        with pytest.raises(TargetError, match="is there already, and it is another file: nothing was overwritten"):
            later.put(file, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    assert {key: kept.body for key, kept in there.objects.items()} == contents


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
@pytest.mark.parametrize("name", ["knows all", "newer listing", "newer listing ignored", "delimiter", "all of that"])
def test_listing_of_many_pages_is_whole(serve: Callable[..., PickyStore], name: str) -> None:
    there = serve(STORES[name][0], page_size=3)
    for number in range(8):
        for key in (f"odoo/{number}", f"odoo/deep/{number}", f"else/{number}", f"odoo-else/{number}"):
            there.objects[key] = Kept(b"x", '""')
    assert there.store().sizes() == {str(number): 1 for number in range(8)}


@pytest.mark.gate
def test_listing_that_does_not_go_on_is_an_error_and_not_the_whole(serve: Callable[..., PickyStore]) -> None:
    there = serve(Manners(ignores=frozenset({"list-type", "marker"})), page_size=3)
    there.objects |= {f"odoo/{number}": Kept(b"x", '""') for number in range(8)}
    with pytest.raises(TargetError, match="lists its objects up to a point, and not beyond it: give the room a bucket"):
        there.store().sizes()


@pytest.mark.gate
@pytest.mark.parametrize(  # between a last look and a request nobody can see a file come without the condition
    ("name", "kibibytes"), [("knows all", 10), ("knows all", 300), ("condition", 300), ("all of that", 300)]
)
def test_file_that_came_while_another_was_sent_is_neither_overwritten_nor_deleted(
    serve: Callable[..., PickyStore], tmp_path: Path, name: str, kibibytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = serve(STORES[name][0])
    file, sha256 = make(tmp_path, kibibytes, "a.dump")

    def come(_done: int = 0) -> None:
        there.objects["odoo/a.dump"] = Kept(b"theirs", '""')

    def look(store: BucketStore, it: str) -> bool:
        found = really(store, it)
        if next(looks) == last:
            come()
        return found

    really, looks, last = BucketStore._is_there, itertools.count(1), 1 if kibibytes == 10 else 2
    if name == "knows all":
        monkeypatch.setattr(BucketStore, "_is_there", look)
    with pytest.raises(TargetError, match="is there already, and it is another file"):
        there.store().put(file, sha256=sha256, tell=silent if name == "knows all" else come)
    assert there.objects["odoo/a.dump"].body == b"theirs"


@pytest.mark.gate
def test_upload_that_breaks_before_its_end_deletes_nothing_of_that_name(
    serve: Callable[..., PickyStore], tmp_path: Path
) -> None:
    there = serve()
    file, sha256 = make(tmp_path, 300, "a.dump")

    def come_and_break(_done: int) -> None:
        there.objects["odoo/a.dump"] = Kept(b"theirs", '""')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        there.store().put(file, sha256=sha256, tell=come_and_break)
    assert there.objects["odoo/a.dump"].body == b"theirs"


@pytest.mark.gate
def test_unfinished_uploads_of_others_stay_where_a_store_lists_more_than_was_asked_for(
    serve: Callable[..., PickyStore],
) -> None:
    there = serve()  # it lists all, whatever the prefix
    for key in ("odoo/a.dump", "a.dump", "else/a.dump"):
        there.unfinished[key] = Unfinished(key, sums=False)
    assert there.store().drop_unfinished(lambda name: name == "a.dump") == ["a.dump"]
    assert set(there.unfinished) == {"a.dump", "else/a.dump"}


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
            r"wants the bucket in the host's name \(SecondLevelDomainForbidden, HTTP 403\): give endpoint_url",
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


@pytest.mark.gate
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            "<html><p>Welcome</p></html>",
            "what answers for bucket backups is no S3-compatible store: correct endpoint_url",
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
    with pytest.raises(TargetError, match=r"is not there \(HTTP 404\): make the bucket, or correct bucket and end"):
        there.store(endpoint_url=f"http://127.0.0.1:{there.port}").look()


@pytest.mark.parametrize(
    ("name", "whole", "parts"),
    [
        pytest.param("knows all", "sha256", "sha256", marks=pytest.mark.gate),
        pytest.param(
            "sums of large objects",
            "sha256",
            "md5; done without x-amz-checksum-algorithm at CreateMultipartUpload (NotImplemented, HTTP 501)",
            marks=pytest.mark.gate,
        ),
        pytest.param(
            "unfinished uploads, 403",
            "sha256; done without ListMultipartUploads (AccessDenied, HTTP 403): let a rule of the bucket delete "
            "incomplete uploads",
            "sha256; done without ListMultipartUploads (AccessDenied, HTTP 403): let a rule of the bucket delete "
            "incomplete uploads",
            marks=pytest.mark.gate,
        ),
        (
            "condition",
            "sha256; done without If-None-Match at PutObject (NotImplemented, HTTP 501): a file of that "
            "name is looked for just before each upload ends",
            "sha256; done without If-None-Match at "
            "CompleteMultipartUpload (NotImplemented, HTTP 501): a file of that name is looked for just before each "
            "upload ends",
        ),
    ],
)
def test_connection_test_says_what_will_prove_a_copy_and_what_is_refused_and_leaves_nothing(
    serve: Callable[..., PickyStore], name: str, whole: str, parts: str
) -> None:
    there = serve(STORES[name][0])
    there.objects["odoo/theirs"] = Kept(b"x", '""')
    block = BackupTarget(
        bucket="backups",
        endpoint_url=f"http://127.0.0.1:{there.port}",
        prefix="odoo",
        access_key_id=KEY_ID,
        secret_access_key=SECRET,
    )
    checks = block.check()
    assert [(check.found, check.advice) for check in checks] == [
        ("works", ""),
        (f"works; what proves a copy: {whole}", ""),
        (f"works; what proves a copy: {parts}", ""),
    ]
    assert set(there.objects) == {"odoo/theirs"}
    assert there.unfinished == {}
