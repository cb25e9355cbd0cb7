"""What all dashboards share: how a number, lines and a heat map look, and the frame around them."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import GraphDrawStyle, GraphGradientMode, StackingMode, VisibilityMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
COLOURS = {
    "queued": "yellow",
    "claimed": "light-blue",
    "running": "blue",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "text",
}
Panel = stat.Panel | timeseries.Panel | heatmap.Panel


def number(
    title: str,
    expression: str,
    *,
    tells: str,
    unit: str = "short",
    legend: str = "",
    limits: Sequence[tuple[float, str]] = (),
    words: dict[str, str] | None = None,
    decimals: int | None = None,
    width: int = 4,
) -> stat.Panel:
    """A number as it stands now. From each limit on it has the limit's colour; below the first it is green."""
    panel = (
        stat.Panel()
        .title(title)
        .description(tells)
        .datasource(SOURCE)
        .height(4)
        .span(width)
        .unit(unit)
        .thresholds(_thresholds(limits))
        .with_target(_query(expression, legend).instant())
    )
    if decimals is not None:
        panel.decimals(decimals)
    if words:
        panel.mappings([ValueMap({value: ValueMappingResult(text=text) for value, text in words.items()})])
    return panel


def lines(
    title: str,
    *queries: tuple[str, str],
    tells: str,
    unit: str = "short",
    stacked: bool = False,
    width: int = 12,
) -> timeseries.Panel:
    """Lines over time, one per series of each `(expression, legend)`; areas on top of each other when `stacked`."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(tells)
        .datasource(SOURCE)
        .height(8)
        .span(width)
        .unit(unit)
        .min(0)
        .show_points(VisibilityMode.NEVER)
        .draw_style(GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(60 if stacked else 8)
        .gradient_mode(GraphGradientMode.NONE)
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
        for name, colour in COLOURS.items():
            panel.override_by_name(name, [DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})])
    for number_, (expression, legend) in enumerate(queries):
        panel.with_target(_query(expression, legend, chr(ord("A") + number_)).range())
    return panel


def heat(title: str, expression: str, *, tells: str, width: int = 12) -> heatmap.Panel:
    """How often each bucket of a histogram in seconds was hit, given as rates by `le`."""
    return (
        heatmap.Panel()
        .title(title)
        .description(tells)
        .datasource(SOURCE)
        .height(8)
        .span(width)
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .with_target(_query(expression, "{{le}}").range().format(PromQueryFormat.HEATMAP))
    )


def board(name: str, title: str, *, tells: str) -> dashboard.Dashboard:
    """An empty dashboard with the choice of the data source, and links to the others."""
    others = dashboard.DashboardLink("Ops room").type(DashboardLinkType.DASHBOARDS).tags(["ops-room"])
    return (
        dashboard.Dashboard(title)
        .uid(f"ops-{name}")
        .description(tells)
        .tags(["ops-room"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .refresh("30s")
        .link(others.include_vars(False).keep_time(True))
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )


def choice(name: str, series: str, *, several: bool) -> dashboard.QueryVariable:
    """A choice among the values of a label, which has the name of the variable."""
    variable = (
        dashboard.QueryVariable(name)
        .datasource(SOURCE)
        .query(f"label_values({series}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    return variable.multi(True).include_all(True).all_value(".*") if several else variable


def _query(expression: str, legend: str, letter: str = "A") -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(letter)


def _thresholds(limits: Sequence[tuple[float, str]]) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=None, color="green"), *(Threshold(value=value, color=colour) for value, colour in limits)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
