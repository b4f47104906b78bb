"""The figures of an engine: quantiles, and the share of writes that were stored in time."""

from __future__ import annotations

import pytest

from livingai.engine.sla import Histogram, Sla


@pytest.mark.parametrize("latency_ms", [0.01, 0.5, 3.0, 50.0, 4000.0])
def test_a_quantile_is_off_by_five_percent_at_most(latency_ms: float) -> None:
    histogram = Histogram()
    for _ in range(10):
        histogram.add(latency_ms)
    for q in (0.1, 0.5, 1.0):
        assert histogram.quantile_ms(q) == pytest.approx(latency_ms, rel=0.05)


def test_a_quantile_is_reached_by_exactly_its_share() -> None:
    histogram = Histogram()
    for latency_ms in (1.0, 100.0):
        histogram.add(latency_ms)
    assert histogram.quantile_ms(0.5) == pytest.approx(1.0, rel=0.05)
    assert histogram.quantile_ms(0.51) == pytest.approx(100.0, rel=0.05)


def test_the_shortest_and_the_longest_latency() -> None:
    histogram = Histogram()
    assert histogram.quantile_ms(0.5) == 0.0
    for latency_ms in (0.0, 1e12):
        histogram.add(latency_ms)
    assert histogram.quantile_ms(0.5) < 0.01
    assert histogram.quantile_ms(1.0) > 1e6


def test_the_share_that_was_met() -> None:
    assert Sla(4, 0, {"met": 1, "late": 2, "fenced": 1}).met_share == 0.25
    assert Sla(4, 0, {"late": 1}).met_share == 0.0
    assert Sla(0, 0).met_share == 1.0
