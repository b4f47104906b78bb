"""The agent's side: the engine, and what a process shares per state directory."""
