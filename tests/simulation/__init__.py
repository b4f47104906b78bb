"""A deterministic simulation: agents, the service and a store in one process, whose steps a seeded
scheduler interleaves, and whose processes it kills.

All that livingai itself is runs as in production, on real files: engines, journals, indexes, hot
caches; the dispatcher with its intake, lanes, batches, outcomes and barriers; writer and reader.
Only what is between processes is ours: sockets are queues, a process is a set of actors (greenlets)
that can be dropped at any step, time is virtual, and the store is the contract's model.

``python -m tests.simulation --seed N`` runs it; see :mod:`tests.simulation.world`.
"""
