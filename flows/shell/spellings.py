"""A secret as programs print it: as it is, quoted for another program, or encoded."""

from __future__ import annotations

import base64
import html
import json
import re
from urllib.parse import quote, quote_plus

_URI_COMPONENT = "!*'()"  # what JavaScript's encodeURIComponent leaves, and with it encodeURI
_URI = _URI_COMPONENT + ";,/?:@&=+$#"


def spellings(secret: str, *, shortest_line: int) -> set[bytes]:
    """Every spelling of the secret, and of it without the blanks around; of its lines those that are long enough.

    Raises UnicodeEncodeError for what cannot be written as UTF-8.
    """
    found = {line.strip() for line in secret.splitlines() if len(line.strip()) >= shortest_line}
    for text in {secret, secret.strip()}:
        found |= {text} | _in_urls(text) | _in_json(text) | _in_programs(text) | _in_shell(text) | _in_markup(text)
    return {one.encode() for one in found} | _encoded(secret)


def _in_urls(text: str) -> set[str]:
    urls = {quote(text, safe=safe) for safe in ("", "/", _URI_COMPONENT, _URI)} | {quote_plus(text)}
    return urls | {re.sub("%..", lambda escape: escape[0].lower(), url) for url in urls}


def _in_json(text: str) -> set[str]:
    """With and without letters of other languages, slashes and HTML escaped, and JSON within JSON."""
    documents = {json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    documents |= {one.replace("/", "\\/") for one in documents}
    documents |= {re.sub("[<>&]", _json_escape, one) for one in documents}
    documents |= {one.replace("'", "\\u0027") for one in documents}
    documents |= {re.sub(r"\\u....", lambda escape: escape[0][:2] + escape[0][2:].upper(), one) for one in documents}
    return documents | {json.dumps(one, ensure_ascii=False)[1:-1] for one in documents}


def _json_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _in_programs(text: str) -> set[str]:
    """As Python shows it, and as SQL and CSV quote it."""
    return {
        repr(text)[1:-1],
        ascii(text)[1:-1],
        repr(text.encode())[2:-1],
        text.replace("'", "''"),
        text.replace('"', '""'),
    }


def _in_shell(text: str) -> set[str]:
    """As bash shows it with `set -x`, `${x@Q}`, `declare -p` and `printf %q`, and as shlex.quote does."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\t", "\\t")
    octal = "".join(chr(byte) if byte < 0x80 else f"\\{byte:03o}" for byte in escaped.encode())
    return {
        text.replace("'", "'\\''"),
        text.replace("'", "'\"'\"'"),
        re.sub(r'([\\"$`])', r"\\\1", text),
        re.sub(r"([^\w@%+=:./-])", r"\\\1", text),
        re.sub(r"([^\w@%+=:./,-])", r"\\\1", text),
        *(re.sub(rf"([^\w@%+=:./~{comma}\u0080-\U0010ffff-])", r"\\\1", text) for comma in ("", ",")),
        escaped,
        octal,
    }


def _in_markup(text: str) -> set[str]:
    escaped = {html.escape(text), html.escape(text, quote=False)}
    escaped |= {one.replace("&#x27;", mark) for one in escaped for mark in ("&#39;", "&apos;")}
    return escaped | {one.replace("&quot;", "&#34;") for one in escaped}


def _encoded(secret: str) -> set[bytes]:
    """In base64, alone and within something longer, in hexadecimal digits, and in UTF-16."""
    raw, stripped = secret.encode(), secret.strip().encode()
    digits = {base64.b64encode(raw), base64.b64encode(stripped)}
    digits |= {_base64_within(stripped, offset) for offset in range(3)}
    digits |= {one.translate(bytes.maketrans(b"+/", b"-_")) for one in digits}
    digits |= {stripped.hex().encode(), stripped.hex().upper().encode()}
    return digits | {secret.strip().encode(encoding) for encoding in ("utf-16-le", "utf-16-be")}


def _base64_within(raw: bytes, offset: int) -> bytes:
    """The base64 digits that depend on `raw` alone, where it begins `offset` bytes after a multiple of three."""
    digits = base64.b64encode(b"\0" * offset + raw)
    return digits[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6]
