"""Requests to a bucket, each without what its store refuses.

Stores that are called S3-compatible know different parts of S3. A part that a request can do without is left out once
the store has refused it. Which part that was is found by sending the request without it, once in a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError

from blocks.bucket_errors import may_refuse_a_part, shown, wants_virtual_style

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Style = Literal["path", "virtual"]
"""Where the bucket stands in an address: in the path, or in the host's name."""

OPTIONAL = {
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ChecksumAlgorithm": "x-amz-checksum-algorithm",
    "ChecksumMode": "x-amz-checksum-mode",
    "IfNoneMatch": "If-None-Match",
    "ContentMD5": "Content-MD5",
    "Delimiter": "delimiter",
}
"""Parameters that a request can do without, and what they are called in HTTP."""

_UNFINISHED = "let a rule of the bucket delete incomplete uploads"
_CONSEQUENCES = {
    "IfNoneMatch": "a file of that name is looked for just before each upload ends",
    "list_multipart_uploads": _UNFINISHED,
    "abort_multipart_upload": _UNFINISHED,
}


class Requests:
    """What is asked of one store. The methods of boto3's client are named as there: `put_object`."""

    def __init__(self, connect: Callable[[Style], S3Client], *styles: Style) -> None:
        """`connect` makes a client for an addressing style; the first style is tried first."""
        self._connect, self._styles = connect, list(styles)
        self.client = connect(self._styles.pop(0))
        self._refused: dict[tuple[str, str], str] = {}
        self._answered: set[str] = set()
        self.compares_sums: bool | None = None
        """Whether the store compares sums with what it gets; None until that was tried."""

    def ask(self, operation: str, **request: Any) -> Mapping[str, Any]:
        """The answer. Raises ClientError, that of the whole request where no part of it was to blame."""
        request = _without(request, {name for name in OPTIONAL if self.refuses(operation, name)})
        if operation in self._answered:
            return self._send(operation, request)
        try:
            answer = self._ask_in_a_style(operation, request)
        except ClientError as error:
            if not may_refuse_a_part(error.response):
                raise
            answer = self._ask_with_less(operation, request, error)
        self._answered.add(operation)
        return answer

    def has_answered(self, operation: str) -> bool:
        """Whether it is known which parts of such a request the store takes."""
        return operation in self._answered

    def refuses(self, operation: str, parameter: str = "") -> bool:
        """Whether the store has refused the parameter, or else the operation itself."""
        return (operation, parameter) in self._refused

    def note_refusal(self, error: ClientError, operation: str, parameter: str = "") -> None:
        """Remember what was refused: it is not asked for again."""
        self._refused[operation, parameter] = shown(error.response)

    @property
    def refusals(self) -> list[str]:
        """What was refused, with the store's answer, and what follows from it."""
        return [self._told(operation, parameter, answer) for (operation, parameter), answer in self._refused.items()]

    def _told(self, operation: str, parameter: str, answer: str) -> str:
        called = self.client.meta.method_to_api_mapping[operation]
        refused = f"{OPTIONAL[parameter]} at {called}" if parameter else called
        consequence = _CONSEQUENCES.get(parameter or operation)
        return f"{refused} ({answer})" + (f": {consequence}" if consequence else "")

    def _send(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = getattr(self.client, operation)(**request)
        return answer

    def _ask_in_a_style(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return self._send(operation, request)
        except ClientError as error:
            if not self._styles or not wants_virtual_style(error.response):
                raise
            self.client = self._connect(self._styles.pop(0))
            return self._send(operation, request)

    def _ask_with_less(self, operation: str, request: Mapping[str, Any], error: ClientError) -> Mapping[str, Any]:
        for less in _attempts(request, error.response):
            try:
                answer = self._send(operation, _without(request, less))
            except ClientError as again:
                if not may_refuse_a_part(again.response):
                    raise  # the store understood this one
            else:
                for name in less:
                    self.note_refusal(error, operation, name)
                return answer
        raise error


def _attempts(request: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterable[set[str]]:
    """What to leave out: what the answer names, then each parameter alone, then more of them."""
    there = [name for name in OPTIONAL if _holds(request, name)]
    words = " ".join(map(str, answer.get("Error", {}).values())).lower()
    named = {name for name in there if OPTIONAL[name].lower() in words}
    sets = chain.from_iterable(combinations(there, count) for count in range(1, len(there) + 1))
    return [named] * bool(named) + [set(one) for one in sets if set(one) != named]


def _holds(request: Mapping[str, Any], name: str) -> bool:
    return name in request or any(name in part for part in _parts(request))


def _without(request: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The request without these parameters, which may be those of the parts that complete an upload."""
    less = {name: value for name, value in request.items() if name not in names}
    if parts := _parts(request):
        kept = [{name: value for name, value in part.items() if name not in names} for part in parts]
        less["MultipartUpload"] = {"Parts": kept}
    return less


def _parts(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = request.get("MultipartUpload", {}).get("Parts", [])
    return parts
