"""The command line, and what it asks for: which cells of the tables are measured."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from bench.outage import STOPS, Stop
from bench.peers.kinds import KINDS
from bench.peers.ready import Ready
from bench.setting import Setting
from bench.stores import NAMES, SQLITE, Target
from bench.tiers import MODES, TIERS, Mode, Tier

SECTIONS = (*TIERS, "reads", "cold")
#: Runs of each cell.
RUNS: Final = 3
DEFAULT_PEER: Final = "sqlite"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Run the benchmark.")
    add = parser.add_argument
    add("--tier", action="append", choices=SECTIONS, help="only this; may be repeated")
    add("--mode", action="append", choices=MODES, help="only this; may be repeated")
    add("--repeat", type=int, metavar="R", help=f"runs of each ({RUNS}; of some tiers fewer)")
    add("--quick", action="store_true", help="one run of each, a fifth of the steps")
    add("--processes", type=int, help="agent processes (1, `fleet`: 1, 2, 4 and 8); no more than "
        "there are agents")  # fmt: skip
    add("--store", action="append", default=[], metavar="URL",
        help="measure this store, too, in turns with SQLite: a URL, or a server that is started "
        f"for it ({', '.join(NAMES[1:])}); may be repeated")  # fmt: skip
    add("--peer", action="append", choices=tuple(KINDS), help="compare closed and paced loops with "
        f"this, in turns ({DEFAULT_PEER}); what it needs is installed and started for it; may be "
        "repeated")  # fmt: skip
    add("--all-peers", action="store_true", help="compare with all of them")
    add("--no-peer", action="store_true", help="compare with nothing")
    add("--stop", action="append", choices=STOPS, help="what tier `outage` stops (store); may be "
        "repeated")  # fmt: skip
    add("--no-probes", action="store_true", help="measure no lag and no bare writes")
    add("--source", choices=("generated", "recorded"), default="generated", help="the states' text")
    add("--seed", type=int, default=1)
    add("--directory", help="where to write (a temporary directory); it decides the file system")
    add("--json", metavar="FILE", help="write all figures there too")
    add("--report", metavar="DIR", help="write a page with plots there, too (extra: bench)")
    return parser.parse_args(argv)


def runs_of(options: argparse.Namespace, tier: Tier) -> int:
    """How often each cell of ``tier`` is measured."""
    if options.quick:
        return 1
    if options.repeat is not None:
        return max(1, int(options.repeat))
    return min(RUNS, tier.runs or RUNS)


def probed_of(options: argparse.Namespace, settings: Sequence[Setting]) -> list[Setting]:
    """Those that have one more run, with probes; a quick benchmark leaves the peers' out."""
    if options.no_probes:
        return []
    return [one for one in settings if one.tier.probed and not (options.quick and one.peer)]


def peers_of(options: argparse.Namespace) -> list[str]:
    """What is compared with: keys of ``KINDS``."""
    if options.no_peer:
        return []
    return list(KINDS) if options.all_peers else list(dict.fromkeys(options.peer or [DEFAULT_PEER]))


def settings_of(
    options: argparse.Namespace, stores: list[Target], peers: list[Ready]
) -> list[Setting]:
    """The cells to measure, without probes.

    Raises:
        ValueError: a tier that is asked for is not measured in the mode that is, or a store that
            is to be stopped is a server that the benchmark did not start.
    """
    settings: list[Setting] = []
    for name in options.tier or TIERS:
        if name not in TIERS:
            continue
        tier = TIERS[name].quick() if options.quick else TIERS[name]
        usual = [mode for mode in tier.modes if mode not in tier.on_request]
        modes = [mode for mode in options.mode or usual if mode in tier.modes]
        if not modes and options.tier:
            raise ValueError(f"tier {name} is measured in mode {' and '.join(tier.modes)} only")
        counts = [options.processes] if options.processes else tier.processes
        for processes in dict.fromkeys(max(1, min(count, tier.agents)) for count in counts):
            common = (processes, options.source, options.seed, options.directory)
            for mode in modes:
                for target in stores:
                    first = Setting(tier, mode, "", *common, target)
                    settings += _stopped(first, options) if tier.outage else [first]
                if _has_peers(tier, mode):
                    settings += [
                        Setting(
                            tier, mode, peer.name, *common, _target(peer), packages=peer.packages
                        )
                        for peer in peers
                    ]
    return settings


def _target(peer: Ready) -> Target:
    if peer.server is None:
        return Target(SQLITE)
    return Target(KINDS[peer.name].server, peer.server.url, peer.server)


def _has_peers(tier: Tier, mode: Mode) -> bool:
    return mode != "burst" and not tier.outage


def _stopped(setting: Setting, options: argparse.Namespace) -> list[Setting]:
    stops: list[Stop] = list(dict.fromkeys(options.stop or ["store"]))
    target = setting.target
    if "store" in stops and target.name != SQLITE and target.server is None:
        raise ValueError(f"tier {setting.tier.name} stops the store: {target.name} is not ours")
    return [setting.stopped(stop) for stop in stops]
