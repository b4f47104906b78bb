"""``python -m livingai.cli``: the same as ``livingai``."""

from livingai.cli.main import main

main()
