"""What happened when, as vertical lines over every graph: runs that failed, and deploys.

The values of the queries are times in milliseconds, and Grafana draws a line at each: at the time of the event, not of
the scrape. Of several within one step of the query it draws the last.
"""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import AnnotationQuery

from exporter.dashboards.panels import SOURCE
from exporter.dashboards.queries import RUNNING, series

DEPLOYS = 'kind=~"odoo_module_upgrade|odoo_fresh_deploy"'


class _PrometheusAnnotation(AnnotationQuery):
    """A query of Grafana's Prometheus plugin, whose fields the SDK does not know."""

    fields: dict[str, Any]

    def to_json(self) -> dict[str, object]:
        """As Grafana stores it."""
        return {**super().to_json(), **self.fields}


class Events(Builder[AnnotationQuery]):
    """Lines at the times, in seconds, that an expression gives by kind and lane; `word` says what a run did then."""

    def __init__(self, name: str, seconds: str, *, word: str, colour: str) -> None:
        self._made = _PrometheusAnnotation(name=name, datasource=SOURCE, icon_color=colour)
        self._made.fields = {
            "target": {"expr": f"1000 * max without (instance) ({seconds})", "refId": "Anno", "range": True},
            "titleFormat": f"{{{{kind}}}} {word}",
            "textFormat": "lane {{lane}}",
            "useValueForTime": True,
        }

    def build(self) -> AnnotationQuery:
        """The query."""
        return self._made


def events(*matchers: str) -> list[Builder[AnnotationQuery]]:
    """Failures of the matching runs, and all deploys."""
    # a deploy may be shorter than a step of the query, so all scrapes of the step are looked at
    started = f"{series('ops_runs_oldest_start_timestamp_seconds', DEPLOYS, RUNNING)}[$__rate_interval]"
    return [
        Events("Failed", series("ops_run_last_failure_timestamp_seconds", *matchers), word="failed", colour="red"),
        Events("Deploys started", f"last_over_time({started})", word="started", colour="blue"),
        Events(
            "Deploys done",
            series("ops_run_last_success_timestamp_seconds", DEPLOYS),
            word="succeeded",
            colour="green",
        ),
    ]
