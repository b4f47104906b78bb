"""The metrics that a service exports: one line for each, with its type, unit, labels and meaning.

``docs/METRICS.md`` says what to do about each, and ``tests/unit/metrics/test_documents.py`` holds
the page, the dashboard and the alerts against this table. No label has the id of a run, a node or a
process: each distinct value would be a series of its own for ever.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """A metric that is exported."""

    name: str
    kind: Kind
    #: "" for a number of things.
    unit: str
    labels: tuple[str, ...]
    help: str


_ALL: Final = (
    Metric("livingai_saves_total", "counter", "", ("outcome", "level"),
           "Accepted records by their outcome and by the level that they reached with it."),
    Metric("livingai_save_duration_seconds", "histogram", "seconds", (),
           "From the acceptance of a record to its outcome, over all outcomes."),
    Metric("livingai_backpressure_seconds_total", "counter", "seconds", (),
           "How long saves have waited for room in a full journal, over all processes."),
    Metric("livingai_queue_records", "gauge", "", (),
           "Accepted records that no cursor has passed: most of them wait for their outcome."),
    Metric("livingai_queue_oldest_age_seconds", "gauge", "seconds", (),
           "Age of the oldest of these records; 0 if there is none."),
    Metric("livingai_journals", "gauge", "", (), "Journals, one for each process that saves."),
    Metric("livingai_journals_unreadable", "gauge", "", (),
           "Journals that could not be read for these figures, so that what waits there is missing "
           "in them."),
    Metric("livingai_journal_bytes", "gauge", "bytes", (), "Bytes of all files of the journals."),
    Metric("livingai_journal_unsynced_bytes", "gauge", "bytes", (),
           "Bytes that living processes have appended and a power loss could take."),
    Metric("livingai_commit_duration_seconds", "histogram", "seconds", ("store",),
           "Duration of a commit of a batch that the store took."),
    Metric("livingai_commit_batch_records", "histogram", "", (), "Records of such a batch."),
    Metric("livingai_commit_failures_total", "counter", "", ("store",),
           "Commits that the store did not take: away, busy, full, damaged."),
    Metric("livingai_store_up", "gauge", "", ("store",),
           "1 if the store takes writes, 0 if not; missing while the service does not answer."),
    Metric("livingai_store_lag_seconds", "gauge", "seconds", ("store",),
           "Age of the oldest record that the service has taken up and the store does not have."),
    Metric("livingai_raw_bytes_total", "counter", "bytes", (),
           "Bytes of stored states before they were compressed."),
    Metric("livingai_stored_bytes_total", "counter", "bytes", (),
           "Bytes of the same states as they were stored."),
    Metric("livingai_quarantined_records", "gauge", "", (),
           "Records that lie in the quarantine, because the store refuses them or they are "
           "damaged."),
    Metric("livingai_effects_in_doubt", "gauge", "", (),
           "Tools of unfinished runs that were begun, have no result, and belong to no living "
           "process of this machine; looked for every minute."),
    Metric("livingai_service_up", "gauge", "", (), "1 if the service answers, 0 if not."),
    Metric("livingai_agents", "gauge", "", (), "Connected processes that have a journal."),
    Metric("livingai_build_info", "gauge", "", ("version", "python"),
           "Always 1; versions of livingai and of Python that serve these metrics."),
)  # fmt: skip

#: All metrics by name.
METRICS: Final = {metric.name: metric for metric in _ALL}


def series_names(metric: Metric) -> tuple[str, ...]:
    """The names of its series, as expressions of Prometheus use them."""
    if metric.kind == "histogram":
        return tuple(f"{metric.name}_{suffix}" for suffix in ("bucket", "count", "sum"))
    return (metric.name,)
