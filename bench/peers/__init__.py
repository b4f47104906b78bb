"""What livingai is compared with: other ways of keeping states, and what bounds each."""
