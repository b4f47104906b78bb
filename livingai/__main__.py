"""``python -m livingai``: the same as ``livingai``."""

from livingai.cli.main import main

main()
