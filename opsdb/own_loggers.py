"""What the room's own code logs: at INFO, also beside Prefect, whose import sets everybody else's level to WARNING."""

from __future__ import annotations

import logging

PACKAGES = ("blocks", "cli", "deployments", "exporter", "flows", "ops", "opsdb")


def log_at_info() -> None:
    """Let the room's loggers say what they do, in this process and in those that are forked from it."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in PACKAGES:
        logging.getLogger(name).setLevel(logging.INFO)
