"""Stores that refuse parts of S3, each in the way of a real one, and what proves a copy there."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import NamedTuple

from blocks.target_store import Proof
from tests.support.picky_store import SHA256
from tests.support.store_manners import Manners, Refusal

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
        Refusal("GetObject", "range"),
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
    "sums repeated as they were told": (Manners(etags="opaque", echoes=True), R, R),
    "sums repeated beside true ETags": (Manners(echoes=True), S, S),
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
    "ranges ignored": (Manners(ignores=frozenset({"range"})), S, S),
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


def make(folder: Path, kibibytes: int, name: str) -> tuple[Path, str]:
    """A file, and its sum."""
    file = folder / name
    file.write_bytes(random.Random(name).randbytes(kibibytes * KIBIBYTE))
    return file, hashlib.sha256(file.read_bytes()).hexdigest()
