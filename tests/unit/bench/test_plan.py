"""Which cells a command line asks for."""

from __future__ import annotations

import pytest

from bench.peers.ready import Ready
from bench.plan import arguments, peers_of, probed_of, runs_of, settings_of
from bench.stores import SQLITE, Target
from bench.tiers import TIERS

HERE = [Target(SQLITE)]


def cells(*argv: str, peers: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    options = arguments(argv)
    ready = [Ready(name, "", None) for name in peers]
    found = settings_of(options, HERE, ready)
    return [(each.tier.name, each.mode, each.peer) for each in found]


def test_a_mode_that_takes_long_is_measured_only_when_asked_for() -> None:
    assert cells("--tier", "hyperscale") == [("hyperscale", "closed", "")]
    assert cells("--tier", "hyperscale", "--mode", "paced") == [("hyperscale", "paced", "")]
    with pytest.raises(ValueError, match="tier paced is measured in mode paced only"):
        cells("--tier", "paced", "--mode", "closed")


def test_peers_are_compared_where_they_can_be() -> None:
    peers = ("sqlite", "dbos")
    found = cells("--tier", "production", "--tier", "tiny", "--tier", "outage", peers=peers)
    assert found == [
        ("production", "closed", ""), ("production", "closed", "sqlite"),
        ("production", "closed", "dbos"),
        ("production", "paced", ""), ("production", "paced", "sqlite"),
        ("production", "paced", "dbos"),
        ("tiny", "burst", ""), ("outage", "paced", ""),
    ]  # fmt: skip


def test_which_peers() -> None:
    assert peers_of(arguments([])) == ["sqlite"]
    assert peers_of(arguments(["--no-peer"])) == []
    assert peers_of(arguments(["--peer", "dbos", "--peer", "dbos"])) == ["dbos"]
    assert len(peers_of(arguments(["--all-peers"]))) == 11


def test_how_often() -> None:
    usual, outage = TIERS["production"], TIERS["outage"]
    assert [runs_of(arguments([]), tier) for tier in (usual, outage)] == [3, 1]
    assert [runs_of(arguments(["--repeat", "5"]), tier) for tier in (usual, outage)] == [5, 5]
    assert runs_of(arguments(["--quick", "--repeat", "5"]), usual) == 1


def test_which_have_a_run_with_probes() -> None:
    def probed(*argv: str) -> list[tuple[str, str]]:
        options = arguments([*argv, "--tier", "single", "--tier", "tiny"])
        found = probed_of(options, settings_of(options, HERE, [Ready("sqlite", "", None)]))
        return [(each.tier.name, each.peer) for each in found]

    assert probed() == [("single", ""), ("single", "sqlite")]
    assert probed("--quick") == [("single", "")]
    assert probed("--no-probes") == []


def test_what_an_outage_stops() -> None:
    found = settings_of(
        arguments(["--tier", "outage", "--stop", "writer", "--stop", "service"]), HERE, []
    )
    assert [each.name for each in found] == ["paced, writer stopped", "paced, service stopped"]
    away = Target("redis://somewhere/0", "redis://somewhere/0")
    with pytest.raises(ValueError, match="redis://somewhere/0 is not ours"):
        settings_of(arguments(["--tier", "outage"]), [away], [])
