"""A CrewAI flow is killed (SIGKILL) in its second method; started again, it goes on there.

    python examples/frameworks/killed_crewai_flow.py

Needs livingai[crewai]; no key, no network.
"""

import os
import signal
import subprocess
import sys

os.environ.update(CREWAI_DISABLE_TELEMETRY="true", OTEL_SDK_DISABLED="true")

from crewai.flow import Flow, listen, persist, start

from livingai import CheckpointEngine, SQLiteStore
from livingai.adapters.crewai import LivingAIFlowPersistence


def live(dies: bool) -> None:
    """One life of the flow."""
    with CheckpointEngine(SQLiteStore("killed_crewai_flow.db")) as engine:

        @persist(LivingAIFlowPersistence(engine))
        class Trip(Flow):
            """Two methods; the state is saved behind each."""

            @start()
            def plan(self) -> None:
                if "plan" not in self.state:  # else it was restored
                    print("  planning", flush=True)
                    self.state["plan"] = "Lisbon"

            @listen(plan)
            def book(self) -> None:
                if dies:
                    print("  ... and here it is killed", flush=True)
                    os.kill(os.getpid(), signal.SIGKILL)
                self.state["booked"] = self.state["plan"]

        trip = Trip(suppress_flow_events=True)
        trip.kickoff(inputs={"id": "trip-1"})
        print(f"  done: {trip.state['booked']} is booked", flush=True)


def main() -> None:
    """Start the flow twice, as processes of their own."""
    for title, dies in (("first life", "dies"), ("second life", "")):
        print(title, flush=True)
        code = subprocess.run([sys.executable, __file__, "live", dies], check=False).returncode
        print(f"  exit code {code}", flush=True)
    print("shown: killed once, planned once, and booked")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        live(bool(sys.argv[2]))
    else:
        main()
