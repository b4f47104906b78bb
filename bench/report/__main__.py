"""``python -m bench.report FILE.json``: make the report of a run anew."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.peers.kinds import KINDS
from bench.report.markdown import readme_table
from bench.report.plots import PlotsMissingError
from bench.report.writing import write_report
from bench.results import read


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files and print where; 2 if that cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("file", help="what `make bench ARGS='--json FILE'` has written")
    parser.add_argument("--to", metavar="DIR", help="(the folder of the file)")
    parser.add_argument(
        "--readme", metavar="PEER", choices=tuple(KINDS),
        help="print the table of README.md instead, with this peer in brackets",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        document = read(options.file)
        if options.readme:
            print(readme_table(document, options.readme), end="")
            return 0
        print(write_report(options.to or Path(options.file).parent, document))
    except (OSError, ValueError, PlotsMissingError) as error:
        print(f"bench.report: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
