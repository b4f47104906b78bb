"""Plots, and one HTML page, made from the JSON document of a run."""
