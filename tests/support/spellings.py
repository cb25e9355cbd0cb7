"""The forms in which a secret travels, for tests that look for it where it must not be."""

from __future__ import annotations

import base64
from urllib.parse import quote


def spellings(secret: str) -> list[bytes]:
    """Raw, base64 and URL-encoded."""
    return [secret.encode(), base64.b64encode(secret.encode()), quote(secret, safe="").encode()]
