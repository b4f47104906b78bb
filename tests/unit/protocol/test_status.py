"""The record of how a service is, as it travels between versions."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from livingai.cli.health import _described
from livingai.errors import ServiceError
from livingai.protocol.status import ServiceFlow, ServicePids, ServiceStatus

FULL = ServiceStatus(
    store="sqlite:///a.db", version="0.0.1", served=True, foreground=True,
    compression="2 processes", started_at=1.5, pids=ServicePids(2, 3, (4, None), 5, None, (6, 7)),
    agents=1, journals=2,
    journals_of_dead_owners=1, inflight=10, inflight_bytes=99, batches=1,
    outcomes={"met": 3, "late": 0}, trouble="the disk is full",
    flow=ServiceFlow(12, 2.5, 4096, 7, 900, 90), store_trouble="the disk is full", turns=12,
)  # fmt: skip


@pytest.mark.parametrize("status", [FULL, ServiceStatus()])
def test_what_is_sent_is_what_is_read(status: ServiceStatus) -> None:
    wire = status.to_wire()
    assert ServiceStatus.from_wire(msgpack.unpackb(msgpack.packb(wire))) == status
    assert ServiceStatus.from_wire(json.loads(json.dumps(wire))) == status


def test_the_names_on_the_wire() -> None:
    """Commands of other versions read these."""
    wire = FULL.to_wire()
    assert list(wire) == [
        "store", "version", "served", "foreground", "compression", "started_at", "pids", "agents",
        "journals", "journals_of_dead_owners", "inflight", "inflight_bytes", "batches", "outcomes",
        "trouble", "flow", "store_trouble", "turns",
    ]  # fmt: skip
    assert wire["pids"] == {
        "supervisor": 2, "dispatcher": 3, "writers": [4, None], "reader": 5, "housekeeper": None,
        "compressors": [6, 7],
    }  # fmt: skip
    assert wire["flow"] == {
        "queued": 12, "oldest_s": 2.5, "unsynced_bytes": 4096, "commits": 7, "raw_bytes": 900,
        "stored_bytes": 90,
    }  # fmt: skip


@pytest.mark.parametrize(
    "missing", ["version", "compression", "served", "foreground", "pids", "flow"]
)
def test_an_older_service_does_not_send_all(missing: str) -> None:
    wire = FULL.to_wire()
    del wire[missing]
    found = ServiceStatus.from_wire(wire)
    assert getattr(found, missing) == getattr(ServiceStatus(), missing)
    assert {**found.to_wire(), missing: FULL.to_wire()[missing]} == FULL.to_wire()
    labels = [label for label, _ in _described(found)]
    assert ("version" in labels) == (missing != "version"), "not told of what was not said"
    assert ("compression" in labels) == (missing != "compression")


def test_a_newer_service_sends_more() -> None:
    wire = {**FULL.to_wire(), "mood": "good"}
    wire["pids"]["archivist"] = 8
    assert ServiceStatus.from_wire(wire) == FULL


@pytest.mark.parametrize(
    "wire", [None, [], "text", {"agents": "1"}, {"pids": []}, {"pids": {"writers": 7}}, {"flow": 3},
             {"flow": {"queued": "1"}},
             {"outcomes": None}, {"store": 7}],
)  # fmt: skip
def test_values_of_another_type_are_an_error_of_the_service(wire: Any) -> None:
    with pytest.raises(ServiceError, match="the service's status"):
        ServiceStatus.from_wire(wire)


def test_what_the_command_prints() -> None:
    lines = [f"{label:16} {value}" for label, value in _described(FULL)]
    assert lines[0] == "store            sqlite:///a.db"
    assert lines[2:8] == [
        "  supervisor     2",
        "  dispatcher     3",
        "  writers        4, None",
        "  reader         5",
        "  housekeeper    not started",
        "  compressors    6, 7",
    ]
    assert lines[8:14] == [
        "agents           1",
        "journals         2 (1 of dead owners)",
        "on their way     10 (99 bytes)",
        "waiting          12 records, the oldest for 2.5 s; 4.1 KB of all not synced yet",
        "outcomes         3 met",
        "compression      2 processes",
    ]
    assert lines[14].startswith("version          0.0.1, this command has ")
    assert lines[15:] == ["trouble          the disk is full"]
