"""A real Alertmanager with the room's own example, which sends to a stand-in for Mattermost."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.children import child, free_port
from tests.support.mattermost import TOKEN
from tests.support.programs import program
from tests.support.prometheus import ROOT, wait_until_ready, with_changes


@contextmanager
def sending(chat_port: int, folder: Path) -> Iterator[str]:
    """Run Debian's Alertmanager below `folder`, stopped by its own pid; yields its `host:port`.

    It waits a second where the example waits 5 or 30, and 2 s for what is new of a group, instead of 5 minutes.
    """
    binary = program("prometheus-alertmanager", package="prometheus-alertmanager")
    webhook, config = folder / "mattermost-webhook", folder / "alertmanager.yml"
    webhook.write_text(f"http://127.0.0.1:{chat_port}/hooks/{TOKEN}\n")
    changes = {"/etc/prometheus/mattermost-webhook": str(webhook)}
    changes |= {"group_wait: 30s": "group_wait: 1s", "group_wait: 5s": "group_wait: 1s"}
    config.write_text(with_changes("alertmanager.yml", changes | {"group_interval: 5m": "group_interval: 2s"}))
    address, log = f"127.0.0.1:{free_port()}", folder / "alertmanager.log"
    argv = [
        binary,
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with child(argv, os.environ, log) as process:
        wait_until_ready(f"http://{address}", process, log)
        yield address


def impatient_rules(folder: Path) -> Path:
    """The room's rules in a folder of their own, without the times for which something must last, or alerts last on."""
    rules = folder / "rules"
    rules.mkdir()
    for file in (ROOT / "exporter" / "rules").glob("*.yml"):
        (rules / file.name).write_text(
            re.sub(r"^( +(?:keep_firing_)?for): \w+$", r"\1: 0s", file.read_text(), flags=re.MULTILINE)
        )
    return rules
