"""`python -m exporter.metrics`: what `ops exporter` becomes."""

from __future__ import annotations

import logging
import threading

import yaml

from exporter.metrics.collector import Room
from exporter.metrics.scrape import Scraper
from exporter.metrics.server import MetricsServer
from exporter.process import work_until_signal
from opsdb.kinds.kinds import known_kinds
from opsdb.settings import Settings

log = logging.getLogger("ops.exporter")


def serve(settings: Settings, stop: threading.Event) -> None:
    """Serve the metrics until `stop` is set. Raises UsageError when the address cannot be used."""
    room = Room(
        kinds=_kinds(settings),
        lane_limit=settings.lane_limit,
        lost_seconds=settings.timings.lost,
        backup_objective=settings.backup_objective,
        prunes=settings.prune,
    )
    scraper = Scraper(settings.ops_url, room)
    with MetricsServer(settings, scraper):
        address = f"{settings.exporter_address} port {settings.exporter_port}"
        log.info("metrics on %s; alerts are sent by another part of the room, `ops alerter`", address)
        stop.wait()
    scraper.close()


def _kinds(settings: Settings) -> tuple[str, ...]:
    try:
        return tuple(known_kinds(settings))
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        log.warning("%s lists no kinds (%s): a kind shows after its first run", settings.prefect_yaml, error)
        return ()


if __name__ == "__main__":
    work_until_signal(serve)
