"""Exceptions of recorded calls as plain values, and made again from them."""
