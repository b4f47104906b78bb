"""Looking into a state directory from outside: finding it, checking it, and its quarantine."""
