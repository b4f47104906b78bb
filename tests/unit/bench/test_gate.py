"""The gate's verdict."""

import re

import pytest

from bench.gate import GateError, Pair, baseline, mode_of, too_slow


def pair(ratio: float) -> Pair:
    return Pair({"agents": 1.0, "writers": 3.0}, {"agents": 2 * ratio, "writers": 2 * ratio})


def test_the_median_of_all_roles_decides() -> None:
    assert pair(1.5).ratio == 1.5
    assert not too_slow([pair(3.0), pair(1.0), pair(1.1)], 1.1)
    assert too_slow([pair(0.5), pair(1.2), pair(1.11)], 1.1)


def test_the_baseline_is_a_commit() -> None:
    assert re.fullmatch("[0-9a-f]{40}", baseline())


def test_a_tier_is_measured_in_its_first_mode() -> None:
    assert mode_of("production", None) == "closed"
    assert mode_of("production", "paced") == "paced"
    assert mode_of("paced", None) == "paced"
    with pytest.raises(GateError, match="paced only"):
        mode_of("paced", "closed")
