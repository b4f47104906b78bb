"""The page, the dashboard and the alerts speak of metrics that are exported, and of all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from livingai.metrics.names import METRICS, series_names
from tests.support.agents import ROOT
from tests.support.promql import Expression, PromQLError

PAGE = ROOT / "docs" / "METRICS.md"
DASHBOARD = ROOT / "deploy" / "grafana" / "livingai.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
SERIES = {name: metric for metric in METRICS.values() for name in series_names(metric)}
#: Of node_exporter, and Prometheus' own.
FOREIGN = {"node_textfile_mtime_seconds", "up"}


def expressions() -> Iterator[tuple[str, str]]:
    """Where an expression is, and its text."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield f"dashboard: {panel['title']}", target["expr"]
    for rule in rules():
        yield f"alert: {rule['alert']}", rule["expr"]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize(("where", "text"), list(expressions()))
def test_each_expression_is_of_exported_metrics(where: str, text: str) -> None:
    found = Expression(text)
    assert found.selectors, f"{where} asks for nothing"
    for selector in found.selectors:
        if selector.name in FOREIGN:
            continue
        assert selector.name in SERIES, f"{where}: {selector.name} is not exported"
        metric = SERIES[selector.name]
        known = {
            *metric.labels,
            "job",
            "instance",
            *(("le",) if "_bucket" in selector.name else ()),
        }
        assert selector.labels <= known, f"{where}: {selector.labels - known} of {selector.name}"
        counts = metric.kind in ("counter", "histogram")
        assert counts == selector.ranged, f"{where}: {selector.name} is a {metric.kind}"
    by = {label for name in found.grouped for label in (name,)}
    labels = {label for s in found.selectors if s.name in SERIES for label in SERIES[s.name].labels}
    assert by <= labels | {"job", "instance", "le"}, f"{where}: grouped by {by - labels}"


def test_every_metric_is_on_the_page_with_its_type_unit_and_labels() -> None:
    rows = re.findall(r"^\| `(livingai_\w+)` \|([^|]*)\|([^|]*)\|([^|]*)\|", PAGE.read_text(), re.M)
    found = {
        name: (kind.strip(), unit.strip(), tuple(re.findall(r"`(\w+)`", labels)))
        for name, kind, unit, labels in rows
    }
    expected = {m.name: (m.kind, m.unit or "-", m.labels) for m in METRICS.values()}
    assert found == expected
    assert len(rows) == len(found)


def test_every_metric_is_on_the_dashboard() -> None:
    asked = {
        SERIES[selector.name].name
        for where, text in expressions() if where.startswith("dashboard")
        for selector in Expression(text).selectors if selector.name in SERIES
    }  # fmt: skip
    assert asked == set(METRICS)


def test_each_alert_says_what_to_do() -> None:
    headings = re.findall(r"^#+ (.*)$", PAGE.read_text(), re.M)
    anchors = {re.sub(r"[^\w\- ]", "", each).lower().replace(" ", "-") for each in headings}
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        url = rule["annotations"]["runbook_url"]
        page, _, anchor = url.partition("#")
        assert page.endswith("docs/METRICS.md")
        assert anchor == rule["alert"].lower(), rule["alert"]
        assert anchor in anchors, f"{rule['alert']} has no runbook"
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_names_follow_the_conventions() -> None:
    for metric in METRICS.values():
        assert re.fullmatch("livingai_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        stem = metric.name.removesuffix("_total")
        assert not metric.unit or stem.endswith(f"_{metric.unit}"), metric.name
        assert metric.help.endswith(".")
        assert not {"run", "execution", "execution_id", "node", "pid"} & set(metric.labels)


@pytest.mark.parametrize(
    "text",
    ["rate(x[5m]", "sum(x))", "x{a=~\"b\"", "x{a}", "rate(x[five])", "1 +", "x y", "", "[5m]"],
)  # fmt: skip
def test_what_is_no_expression_is_seen(text: str) -> None:
    with pytest.raises(PromQLError):
        Expression(text)
