"""`python -m exporter`: what `ops exporter` becomes. It imports neither Prefect nor the command line: 30 MB less."""

from __future__ import annotations

import logging
import signal
import sys
import threading

import yaml

from exporter.alerting.beside import alerter_beside
from exporter.metrics.collector import Room
from exporter.metrics.scrape import Scraper
from exporter.metrics.server import MetricsServer
from opsdb.errors import OpsError
from opsdb.kinds.kinds import known_kinds
from opsdb.settings import Settings, load_settings

log = logging.getLogger("ops.exporter")


def run(settings: Settings, stopped: threading.Event) -> None:
    """Serve until told to stop. Raises UsageError when the address cannot be used, OpsError when the alerter ends."""
    room = Room(kinds=_kinds(settings), lane_limit=settings.lane_limit, lost_seconds=settings.timings.lost)
    scraper = Scraper(settings.ops_url, room)
    with MetricsServer(settings, scraper), alerter_beside(stopped):
        log.info("metrics on %s port %d", settings.exporter_address, settings.exporter_port)
        stopped.wait()
    scraper.close()


def main() -> None:
    """Run until SIGTERM or SIGINT. Errors are one line and an exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: stopped.set())
    try:
        run(load_settings(), stopped)
    except OpsError as error:
        print(f"ops: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


def _kinds(settings: Settings) -> tuple[str, ...]:
    try:
        return tuple(known_kinds(settings))
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        log.warning("%s tells no kinds (%s): a kind shows after its first run", settings.prefect_yaml, error)
        return ()


if __name__ == "__main__":
    main()
