"""The benchmark: how long an agent is held, when its states are stored, and what a kill costs."""
