"""Figures in the text formats that Prometheus reads, by ``prometheus_client``.

Its writer escapes label values and help texts and knows both formats (Prometheus' own, and
OpenMetrics where the scraper asks for that), so there is no text of our own here. Its metric
objects, which hold values in a process, are not used: the values come from files each time.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from livingai._version import __version__
from livingai.errors import ConfigurationError
from livingai.inspection.figures import DirectoryFigures, Distribution
from livingai.metrics.names import METRICS, Metric

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client import core as families
    from prometheus_client.exposition import choose_encoder, generate_latest
    from prometheus_client.utils import floatToGoString
except ImportError as error:
    raise ConfigurationError(
        "metrics need prometheus_client, which is not installed: pip install 'livingai[metrics]'"
    ) from error


class ServiceFigures(NamedTuple):
    """What the service has answered: is its store up, how far is that behind, how many agents are
    connected."""

    store_up: bool
    store_lag_s: float
    agents: int


class Figures(NamedTuple):
    """All that is exported at one moment."""

    #: The kind of the store: "sqlite", "redis", "postgresql", "tiered", ...
    store: str
    directory: DirectoryFigures
    #: None: the service does not answer.
    service: ServiceFigures | None
    #: None: it was not looked for yet.
    effects_in_doubt: int | None


class Exposition(NamedTuple):
    """A text and its media type."""

    body: bytes
    content_type: str


def expose(figures: Figures, accept: str = "") -> Exposition:
    """The figures in the format that suits an HTTP ``Accept`` header best."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(figures))
    encoder, content_type = choose_encoder(accept)
    return Exposition(encoder(registry), content_type)


def expose_plainly(figures: Figures) -> bytes:
    """The figures in Prometheus' own format, for files."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(figures))
    return generate_latest(registry)


class _Collector:
    """Gives the figures as ``prometheus_client`` takes them."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Family]:
        for name, samples in _values(self._figures):
            yield _family(METRICS[name], samples)


_Samples = Iterable[tuple[tuple[str, ...], Any]]


def _values(figures: Figures) -> Iterator[tuple[str, _Samples]]:
    """Each metric's name with its samples: label values and value."""
    found, store = figures.directory, (figures.store,)
    commits = found.commits
    yield "livingai_build_info", [((__version__, platform.python_version()), 1)]
    yield "livingai_saves_total", [((o, level), count) for o, level, count in found.outcomes()]
    yield "livingai_save_duration_seconds", [((), found.latency_s)]
    yield "livingai_backpressure_seconds_total", [((), found.backpressure_s)]
    yield "livingai_queue_records", [((), found.queue_records)]
    yield "livingai_queue_oldest_age_seconds", [((), found.oldest_age_s)]
    yield "livingai_journals", [((), found.journals)]
    yield "livingai_journals_unreadable", [((), found.unreadable)]
    yield "livingai_journal_bytes", [((), found.journal_bytes)]
    yield "livingai_journal_unsynced_bytes", [((), found.unsynced_bytes)]
    yield "livingai_commit_duration_seconds", [(store, commits.duration_s)]
    yield "livingai_commit_batch_records", [((), commits.records)]
    yield "livingai_commit_failures_total", [(store, commits.failures)]
    yield "livingai_raw_bytes_total", [((), commits.raw_bytes)]
    yield "livingai_stored_bytes_total", [((), commits.stored_bytes)]
    yield "livingai_quarantined_records", [((), found.quarantined)]
    if figures.effects_in_doubt is not None:
        yield "livingai_effects_in_doubt", [((), figures.effects_in_doubt)]
    service = figures.service
    yield "livingai_service_up", [((), int(service is not None))]
    if service is not None:
        yield "livingai_store_up", [(store, int(service.store_up))]
        yield "livingai_store_lag_seconds", [(store, service.store_lag_s)]
        yield "livingai_agents", [((), service.agents)]


def _family(metric: Metric, samples: _Samples) -> Family:
    if metric.kind == "histogram":
        histogram = families.HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in samples:
            histogram.add_metric(labels, _buckets(value), value.sum)
        return histogram
    family: families.CounterMetricFamily | families.GaugeMetricFamily
    if metric.kind == "counter":
        family = families.CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    else:
        family = families.GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _buckets(values: Distribution) -> list[tuple[str, float]]:
    """Counts added up, by upper bound."""
    added, buckets = 0, []
    for bound, count in zip((*values.bounds, math.inf), values.counts, strict=True):
        added += count
        text: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
        buckets.append((text, float(added)))
    return buckets
