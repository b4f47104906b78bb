"""The rows of a table of figures: what each is called, and how it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: (figure, what the table calls it, factor)
ROWS: Final[list[tuple[str, str, float]]] = [
    ("saves", "saves", 1),
    ("held_p50_ms", "held p50, ms", 1),
    ("held_p99_ms", "held p99, ms", 1),
    ("held_max_ms", "held max, ms", 1),
    ("outage_s", "nothing stored for, s", 1),
    ("outage_saves", "  saves accepted meanwhile", 1),
    ("outage_held_p50_ms", "  held p50, ms", 1),
    ("outage_held_p99_ms", "  held p99, ms", 1),
    ("outage_held_max_ms", "  held max, ms", 1),
    ("drained_s", "  all stored after its end, s", 1),
    ("bare_p50_ms", "bare pwritev p50, ms", 1),
    ("held_to_bare", "held p50 / bare p50", 1),
    ("in_time_share", "stored within budget, %", 100),
    ("later_in_time_share", "  after each agent's first, %", 100),
    ("ready_in_time_share", "  from ready to save, %", 100),
    ("total_s", "total, s", 1),
    ("accepted_per_s", "accepted per second", 1),
    ("stored_per_s", "stored per second", 1),
    ("latency_p50_ms", "save to stored p50, ms", 1),
    ("latency_p99_ms", "save to stored p99, ms", 1),
    ("latency_max_ms", "save to stored max, ms", 1),
    ("ready_p99_ms", "ready to stored p99, ms", 1),
    ("lag_p99_ms", "event-loop lag p99, ms", 1),
    ("lag_max_ms", "event-loop lag max, ms", 1),
    ("idle_lag_p99_ms", "  of an idle loop p99, ms", 1),
    ("raw_bytes", "states, raw, MB", 1e-6),
    ("stored_bytes", "states, stored, MB", 1e-6),
    ("stored_ratio", "  raw to stored", 1),
    ("file_bytes", "the store in all, MB", 1e-6),
    ("written_bytes", "file pages made dirty, MB", 1e-6),
    ("network_bytes", "to and from the server, MB", 1e-6),
    ("service_memory_bytes", "the service's memory, MB", 1e-6),
    ("server_memory_bytes", "the database server's memory, MB", 1e-6),
    ("save_cpu_ms", "cpu per save, ms", 1),
    ("agents_save_cpu_ms", "  of it the agents, ms", 1),
    ("agents_cpu_s", "cpu agents, s", 1),
    ("dispatcher_cpu_s", "cpu dispatcher, s", 1),
    ("compressors_cpu_s", "cpu compressors, s", 1),
    ("writers_cpu_s", "cpu writer, s", 1),
    ("server_cpu_s", "cpu database server, s", 1),
    *((f"save_cpu_q{n}_ms", f"cpu per save, quarter {n} of the steps, ms", 1) for n in range(1, 5)),
    *((f"stored_q{n}_bytes", f"stored per save, quarter {n}, KB", 1e-3) for n in range(1, 5)),
    ("recovered_of", "agents killed", 1),
    ("recovered_cache", "  recovered, hot cache", 1),
    ("recovered_store", "  recovered, store", 1),
]


def short(value: float) -> str:
    """A figure with about three digits."""
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def title_of(tier: Mapping[str, Any], processes: int) -> str:
    """Of a tier, as a document has it, with so many agent processes."""
    growth, agents = tier["growth"], tier["agents"]
    return (
        f"{tier['name']}: {agents} agent{'s' if agents > 1 else ''} × {growth['steps']} states, "
        f"{growth['first_bytes'] / 1000:g} to {growth['last_bytes'] / 1000:g} KB"
        + (", a window" if growth["window"] else "")
        + (f", in {processes} processes" if processes > 1 else "")
    )
