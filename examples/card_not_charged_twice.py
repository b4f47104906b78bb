"""A process is killed right after it has charged a card, before it could note that it did.

    python examples/card_not_charged_twice.py

A program that simply tries again charges twice. Here the intent is on disk before the call, so the
call is known to be in doubt, and is never repeated silently: a resolver decides.
"""

import os
import signal
import sys
from pathlib import Path

from livingai import CheckpointEngine, ExecutionNode, Resolution, SQLiteStore, SyncRun
from livingai.errors import InDoubtError

#: What the payment provider has done.
LEDGER = Path("ledger.txt")


def charge(order: str, amount: int) -> str:
    """The side effect; then the machine "loses power"."""
    with LEDGER.open("a") as ledger:
        ledger.write(f"{order} {amount}\n")
    print(f"  the card is charged {amount} for {order}", flush=True)
    if os.environ.get("DIE"):
        os.kill(os.getpid(), signal.SIGKILL)
    return f"receipt for {order}"


def times_charged(order: str) -> int:
    """How often the provider has charged for an order."""
    lines = LEDGER.read_text().splitlines() if LEDGER.exists() else []
    return sum(line.startswith(f"{order} ") for line in lines)


def agent(run: SyncRun, order: str) -> str:
    """Looks up the price, then charges."""
    price = run.step("price", lambda: 42)
    return run.tool("charge", charge, order, amount=price)


def ask_provider(node: ExecutionNode) -> Resolution:
    """The resolver: the provider knows whether it happened."""
    order = node.input["args"][0]
    if times_charged(order):
        print("  the provider says: it was charged")
        return Resolution.done(f"receipt for {order}")
    return Resolution.retry()


def main() -> None:
    """Charge and die; try again without a resolver, then with one."""
    order = f"order-{os.getpid()}"
    print("first life", flush=True)
    child = os.fork()
    if child == 0:
        os.environ["DIE"] = "1"
        with CheckpointEngine(SQLiteStore("orders.db")) as engine, engine.run_sync(order) as run:
            agent(run, order)
        sys.exit("not reached")
    print(f"  killed by signal {os.WTERMSIG(os.waitpid(child, 0)[1])}")

    with CheckpointEngine(SQLiteStore("orders.db")) as engine:
        print("second life, no resolver: the run stops before it could charge again")
        try:
            with engine.run_sync(order) as run:
                agent(run, order)
        except InDoubtError as error:
            print(f"  {type(error).__name__}: {len(error.node_ids)} call in doubt")
        print("third life, the provider is asked")
        with engine.run_sync(order, resolver=ask_provider) as run:
            print(f"  {agent(run, order)}")
    print(f"shown: killed once, started three times, charged {times_charged(order)} time")


if __name__ == "__main__":
    main()
