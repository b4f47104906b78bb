"""What is wrong with a place where agents are persisted, and what to do about it."""
