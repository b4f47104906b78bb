"""Peers that can be measured here: their packages are installed and their servers run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bench.peers.kinds import KINDS
from bench.peers.room import PackagesMissingError, installed
from bench.servers import Server, ServerMissingError, started


@dataclass(frozen=True, slots=True)
class Ready:
    """A peer; ``name`` is a key of ``bench.peers.kinds.KINDS``."""

    name: str
    packages: str
    server: Server | None


def get_ready(
    names: Iterable[str],
    running: Mapping[str, Server],
    stack: contextlib.ExitStack,
    left_out: Callable[[str], object],
) -> list[Ready]:
    """Install and start what the peers need, until ``stack`` is closed. ``running`` are servers
    that are there already. ``left_out`` gets a line for each peer that cannot be had here."""
    servers, folders = dict(running), dict[tuple[str, ...], str]()
    found = []
    for name in names:
        kind = KINDS[name]
        try:
            if kind.requirements not in folders:
                folder = stack.enter_context(installed(kind.requirements))
                folders[kind.requirements] = folder
            if kind.server and kind.server not in servers:
                servers[kind.server] = stack.enter_context(started(kind.server))
        except (PackagesMissingError, ServerMissingError) as error:
            left_out(f"{kind.title}: left out, {error}")
            continue
        found.append(Ready(name, folders[kind.requirements], servers.get(kind.server)))
    return found
