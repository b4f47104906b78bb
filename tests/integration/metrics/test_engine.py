"""``engine.metrics``: a snapshot of one engine, and what the settings refuse."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from unittest import mock

import pytest

from livingai import CheckpointEngine, Durability, EngineMetrics, ExecutionNode, OutcomeStatus
from livingai.errors import ConfigurationError
from tests.support.patience import patience
from tests.support.place import Place


def test_before_the_first_save(state_dir: Place) -> None:
    with state_dir.engine() as engine:
        found = engine.metrics
        assert isinstance(found, EngineMetrics)
        assert (found.saves, found.pending, found.outcomes, found.latency.total) == (0, 0, {}, 0)
        assert found.p99_s == found.backpressure_s == found.latency.sum_s == 0.0


def test_what_was_saved_and_what_became_of_it(state_dir: Place) -> None:
    with state_dir.engine(budget_ms=1e9) as engine, state_dir.engine() as other:
        outcomes = [
            engine.save_sync(ExecutionNode("run-1"), b"x" * 1000).result(patience(30))
            for _ in range(7)
        ]
        other.save_sync(ExecutionNode("run-2"), b"y" * 10).result(patience(30))
        found = engine.metrics
        assert (found.saves, found.pending) == (7, 0)
        assert found.outcomes == {(OutcomeStatus.MET, Durability.STORE): 7}
        assert found.state_bytes == 7000
        assert found.node_bytes > 7 * 50
        assert found.latency.total == 7
        assert found.latency.sum_s == pytest.approx(sum(o.latency_ms for o in outcomes) / 1000)
        assert len(found.latency.counts) == len(found.latency.bounds_s) + 1
        for latency_s in (outcome.latency_ms / 1000 for outcome in outcomes):
            place = next(i for i, bound in enumerate(found.latency.bounds_s) if latency_s <= bound)
            assert found.latency.counts[place]
        low, high = min(o.latency_ms for o in outcomes), max(o.latency_ms for o in outcomes)
        assert low / 1000 * 0.9 <= found.p50_s <= found.p95_s <= found.p99_s <= high / 1000 * 1.1
        assert engine.sla().outcomes == {"met": 7}
        assert other.metrics.state_bytes == 10


@pytest.mark.parametrize("settings", [{"metrics": ":9464"}, {"metrics_file": "/tmp/a.prom"}])
def test_without_the_extra_the_error_names_it(state_dir: Place, settings: dict[str, str]) -> None:
    real = importlib.util.find_spec

    def find(name: str) -> ModuleSpec | None:
        return None if name == "prometheus_client" else real(name)

    with (
        mock.patch("importlib.util.find_spec", find),
        pytest.raises(ConfigurationError, match=r"pip install 'livingai\[metrics\]'"),
    ):
        CheckpointEngine(state_dir.store(), **settings)  # type: ignore[arg-type]


def test_a_file_that_node_exporter_would_not_read(state_dir: Place) -> None:
    with pytest.raises(ConfigurationError, match=r"\.prom"):
        CheckpointEngine(state_dir.store(), metrics_file="livingai.txt")
