"""Durable runs: a program whose calls are recorded, so that it goes on where it was killed."""
