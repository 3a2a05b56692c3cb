# SPDX-License-Identifier: Apache-2.0
"""The zoo on the command line: ``python -m benchmarks.zoo run|list|sample|all``."""

from __future__ import annotations

import argparse
import sys

from benchmarks.zoo import show


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="families, optimizers, faults, variations, and names of runs")
    listing.add_argument("--runs", action="store_true", help="the names of all runs")
    one = commands.add_parser("run", help="train one run, and print what is said of it")
    one.add_argument("name", help="family/optimizer/change; each part may be a pattern")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--callbacks", choices=("watch", "five"), default="watch")
    one.add_argument("--left-out", action="store_true", help="also what is for reporting: nothing is tuned on it")
    return parser.parse_args()


def main() -> int:
    """Does it."""
    options = arguments()
    return show.listing(runs=options.runs) if options.command == "list" else show.runs(options)


if __name__ == "__main__":
    sys.exit(main())
