"""Metrics of a service: their names, where their figures come from, and how others get them."""
