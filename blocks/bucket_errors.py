"""What a bucket's answers mean for an operator. Nothing that the server wrote is passed on but its error code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from blocks.target_store import TakenError, TargetAwayError, TargetError

_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure", "InvalidSecurity", "401"}
_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect", "301", "307"}
_FORBIDDEN = {"AccessDenied", "AllAccessDisabled", "403"}
_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}
_TAKEN = {"PreconditionFailed", "412"}
_LATER = {"ConditionalRequestConflict", "SlowDown", "RequestTimeout", "Throttling", "TooManyRequests", "429"}
_DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"}
_VIRTUAL = {"SecondLevelDomainForbidden", "PathStyleDomainForbidden", "InvalidPathAccess", "VirtualHostDomainRequired"}
_MISSING = {"NoSuchBucket", "InvalidBucketName"}
_LIMITS = {"EntityTooLarge", "EntityTooSmall", "KeyTooLongError", "InvalidPart", "InvalidPartOrder", "ExpiredToken"}

_UNDERSTOOD = _KEYS - {"SignatureDoesNotMatch"} | _REGION | _CLOCK | _LATER | _DAMAGED | _VIRTUAL | _MISSING | _LIMITS
_NOT_KNOWN = {400, 405, 415, 416, 417, 501}
_NOT_KNOWN_CODES = {"NotImplemented", "InvalidArgument", "InvalidRequest", "SignatureDoesNotMatch", "403"}
"""With a signature that does not match, something on the way may have taken a header; 403 alone is a HEAD's answer."""


def shown(answer: Mapping[str, Any]) -> str:
    """The code and the status of an answer, as an operator may look them up."""
    code = _code(answer)
    if code == str(_status(answer)):
        return f"HTTP {code}"  # it came without a body
    return f"{code if re.fullmatch(r'[A-Za-z0-9.]{1,60}', code) else 'an error'}, HTTP {_status(answer)}"


def may_refuse_a_part(answer: Mapping[str, Any]) -> bool:
    """Whether the store may have refused a header, a word, or the operation as such, and not what was to be done.

    Stores say that in many ways: 501, 400 with any code or none, 403 where a proxy takes a signed header away.
    """
    if _code(answer) in _UNDERSTOOD:
        return False
    return _status(answer) in _NOT_KNOWN or _code(answer) in _NOT_KNOWN_CODES


def found_damage(answer: Mapping[str, Any]) -> bool:
    """Whether the store compared what it got with a sum, and they differ."""
    return _code(answer) in _DAMAGED


def forbids(answer: Mapping[str, Any]) -> bool:
    """Whether the keys lack the right to do that."""
    return _code(answer) in _FORBIDDEN


def wants_virtual_style(answer: Mapping[str, Any]) -> bool:
    """Whether the store needs the bucket in the host's name."""
    return _code(answer) in _VIRTUAL


def _code(answer: Mapping[str, Any]) -> str:
    return str(answer.get("Error", {}).get("Code", ""))


def _status(answer: Mapping[str, Any]) -> int:
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) or 0)


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Raise TargetError for what boto3 raises: its own words may quote what was sent."""
    try:
        yield
    except ClientError as error:
        raise refusal(place, error.response, error.operation_name) from None
    except (BotoCoreError, Boto3Error) as error:
        raise TargetAwayError(
            f"{place} does not answer ({type(error).__name__})",
            advice="see whether endpoint_url of the block is right, and whether this host reaches it",
        ) from None


def refusal(place: str, answer: Mapping[str, Any], operation: str) -> TargetError:  # noqa: PLR0911 - one for each kind
    """The error that says what the answer means."""
    code, status, said = _code(answer), _status(answer), shown(answer)
    if code in _KEYS:
        return TargetError(
            f"{place} refused the keys ({said})",
            advice="correct access_key_id and secret_access_key of the block, or endpoint_url where a proxy changes it",
        )
    if code in _FORBIDDEN:
        return TargetError(
            f"{place} does not allow these keys to do that ({operation}: {said})",
            advice="let them list, read, write and delete objects in it",
        )
    if code in _MISSING or (code == "404" and operation.startswith("List")):
        return TargetError(
            f"{place} does not exist ({said})",
            advice="make the bucket, or correct bucket and endpoint_url of the block",
        )
    if code in ("NoSuchKey", "NotFound", "404"):
        return TargetError(f"{place} does not hold what was asked for ({said})", advice="list what is there")
    if code in _REGION:
        return TargetError(f"{place} is elsewhere ({said})", advice="correct region and endpoint_url of the block")
    if code in _CLOCK:
        return TargetError(f"{place} finds this host's clock wrong ({said})", advice="set the clock")
    if code in _TAKEN:
        return TakenError(f"{place} was sent that by another just now ({said})", advice="start the run again")
    if code in _DAMAGED:
        return TargetError(
            f"{place} found that what it got did not arrive as it was sent ({said})",
            advice="try again, and look for a fault of the network or of the store",
        )
    if code in _VIRTUAL:
        return TargetError(
            f"{place} needs the bucket in the host's name ({said})",
            advice="give endpoint_url of the block without a path, as the store names it for such requests",
        )
    if status in (405, 501) or code == "NotImplemented":
        return TargetError(f"{place} does not know {operation} ({said})", advice=_ADVICE.get(operation, _NO_S3))
    if code in _LATER or status >= 500:
        advice = "try again later" if code != str(status) else "try again later; if that lasts, correct endpoint_url"
        return TargetAwayError(f"{place} cannot answer now ({said})", advice=advice)
    return TargetError(
        f"{place} refused {operation} ({said}), however it was asked",
        advice="see what its documentation says of that code, and whether endpoint_url and region of the block fit",
    )


_NO_S3 = "correct endpoint_url of the block, or use a store that knows this part of S3"
_ADVICE = {"CreateMultipartUpload": "files of more than 16 MiB are sent in parts: use a store that takes those"}
