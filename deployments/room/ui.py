"""Keeps the Prefect UI to the room: a content security policy in its pages, since Prefect has no setting for one.

The V2 UI of Prefect asks amplitude.com for a configuration on every page, even with analytics off, and the login
page of V1 greets with error messages. So V2 it is, and browsers are told to connect to nothing but the room.
"""

from __future__ import annotations

from pathlib import Path

MARK = "<head>"


def close_pages(folder: Path, *, port: int) -> bool:
    """Add the policy to the start pages in the room's own copy of the UI. Returns whether all of them have it.

    Prefect makes the copy when its server starts, and anew after an upgrade: call it again then.
    """
    origins = " ".join(f"{scheme}://{host}:{port}" for scheme in ("http", "ws") for host in ("127.0.0.1", "localhost"))
    policy = f'<meta http-equiv="Content-Security-Policy" content="connect-src \'self\' {origins}">'
    closed = True
    for page in folder.glob("v*/index.html"):
        text = page.read_text(encoding="utf-8")
        if policy in text:
            continue
        if MARK not in text:
            closed = False
            continue
        temporary = page.with_name(".index.html.closed")
        temporary.write_text(text.replace(MARK, MARK + policy, 1), encoding="utf-8")
        temporary.replace(page)
    return closed
