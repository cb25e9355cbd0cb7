"""`python -m exporter.alerting`: what `ops alerter` becomes."""

from __future__ import annotations

from exporter.alerting.alerter import Alerter
from exporter.process import work_until_signal

if __name__ == "__main__":
    work_until_signal(lambda settings, stop: Alerter(settings).run(stop))
