"""What the tests with real processes share: agents, the place they work in, and how to wait."""
