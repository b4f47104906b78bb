"""Run the simulation: ``python -m tests.simulation --seed N --worlds 4 --interleavings 500``.

Each world runs in a process of its own, ``--jobs`` of them at a time. A violation is printed with
the command that repeats it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import logging
import os
import secrets
import subprocess
import sys
import time
from collections import Counter

#: Longest that a world may take, in seconds.
_LONGEST_S = 3600


def main() -> int:
    """Run all worlds; 1 if an invariant did not hold in one of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first world (default: new)"
    )
    parser.add_argument("--worlds", type=int, default=2, help="worlds, with seeds that follow it")
    parser.add_argument("--interleavings", type=int, default=500, help="in each world")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worlds at a time")
    parser.add_argument("--small", action="store_true", help="two agents, one execution, few calls")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    seed = arguments.seed or secrets.randbits(31)
    if arguments.here:
        return _here(seed, arguments.interleavings, arguments.small)
    print(f"seed: {seed}", flush=True)
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        seeds = range(seed, seed + arguments.worlds)
        commands = [_command(one, arguments.interleavings, arguments.small) for one in seeds]
        results = list(pool.map(_apart, commands))
    took_s = time.monotonic() - began
    total: Counter[str] = Counter()
    failures = 0
    for one, command, (code, output, errors) in zip(seeds, commands, results, strict=True):
        if code == 0:
            total.update(json.loads(output))
            continue
        failures += 1
        print(f"world {one} failed; repeat it with")
        print(f"  PYTHONHASHSEED=0 python {' '.join(command)}")
        print(output + errors)
    for name, count in sorted(total.items()):
        print(f"{count:9d}  {name}")
    print(f"{total['interleavings'] / took_s:.0f} interleavings a second")
    return 1 if failures else 0


def _command(seed: int, interleavings: int, small: bool) -> list[str]:
    options = ["--here", "--seed", str(seed), "--interleavings", str(interleavings)]
    return ["-m", "tests.simulation", *options, *(["--small"] if small else [])]


def _apart(command: list[str]) -> tuple[int, str, str]:
    """A world in a process of its own. The order of sets must be the same each time."""
    done = subprocess.run(
        [sys.executable, *command], env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True,
        text=True, check=False, timeout=_LONGEST_S,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def _here(seed: int, interleavings: int, small: bool) -> int:
    from tests.simulation.world import simulate

    logging.disable(logging.CRITICAL)
    print(json.dumps(simulate(seed, interleavings, small=small)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
