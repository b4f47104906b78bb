"""Stores: where committed checkpoints live. One contract (:mod:`livingai.stores.base`).

Importing this package imports no database driver; each backend imports its own when it is used.
"""
