"""From what processes have seen to figures."""

from __future__ import annotations

import pytest

from bench.figures import figures_of, outage_figures, over_runs
from bench.seen import Seen
from livingai import Durability, Outcome, OutcomeStatus

S_NS = 10**9


def seen_of(*saves: tuple[int, float, float, float]) -> Seen:
    """Of (step, began in s, held in ms, latency in ms)."""
    seen = Seen(raw_bytes=1000 * len(saves), cpu_s=0.5)
    for step, began_s, held_ms, latency_ms in saves:
        number = seen.saved(step, int(began_s * S_NS), int(held_ms * 1e6), waited_ms=10.0)
        status = OutcomeStatus.MET if latency_ms <= 50 else OutcomeStatus.LATE
        seen.settled(number, Outcome(status, Durability.STORE, latency_ms))
        seen.ended_ns = max(seen.ended_ns, int((began_s + latency_ms / 1e3) * S_NS))
    return seen


def test_the_first_save_of_each_agent_is_left_out() -> None:
    one = seen_of((0, 1.0, 1, 400), (1, 2.0, 1, 30), (2, 3.0, 1, 60))
    two = seen_of((0, 1.0, 1, 20), (1, 2.0, 1, 45))
    figures = figures_of([one, two], start_ns=S_NS, budget_ms=50)
    assert figures["in_time_share"] == 3 / 5
    assert figures["later_in_time_share"] == 2 / 3
    assert figures["ready_in_time_share"] == 2 / 5
    assert (figures["met"], figures["late"], figures["other_outcomes"]) == (3, 2, 0)
    assert figures["total_s"] == pytest.approx(2.06)
    assert "lag_p99_ms" not in figures


def test_without_a_second_save_there_is_nothing_after_the_first() -> None:
    assert "later_in_time_share" not in figures_of([seen_of((0, 1.0, 1, 1))], S_NS, 50)


def test_an_outage() -> None:
    """What began while nothing was stored counts, and what was still to be stored at its end."""
    seen = seen_of(
        (0, 1.0, 9, 4_500),  # on its way when it begins
        (1, 2.0, 1, 4_000), (2, 3.0, 2, 3_000), (3, 4.9, 3, 1_600),
        (4, 5.0, 8, 9_000),  # behind it
    )  # fmt: skip
    figures = outage_figures([seen], 2 * S_NS, 5 * S_NS)
    assert figures["outage_s"] == 3
    assert figures["outage_saves"] == 3
    assert (figures["outage_held_p50_ms"], figures["outage_held_max_ms"]) == (2, 3)
    assert figures["drained_s"] == pytest.approx(1.5)


def test_a_figure_that_only_some_runs_have() -> None:
    spreads = over_runs([{"a": 1.0, "b": 5.0}, {"a": 2.0}, {"a": 6.0}])
    assert (spreads["a"].median, spreads["a"].least, spreads["a"].most) == (2, 1, 6)
    assert spreads["b"].median == 5
