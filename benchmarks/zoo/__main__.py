# SPDX-License-Identifier: Apache-2.0
"""The zoo on the command line: ``python -m benchmarks.zoo run|list|sample|all``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.zoo import sampled, show


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
    for name, words in (("sample", "a seeded sample, and the table"), ("all", "the whole set, which takes hours")):
        many = commands.add_parser(name, help=words)
        many.add_argument("--size", type=int, default=600, help="runs of the sample")
        many.add_argument("--salt", type=int, default=0, help="draws another sample")
        many.add_argument("--seeds", type=int, default=1)
        many.add_argument("--jobs", type=int, default=2)
        many.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> int:
    """Does it."""
    options = arguments()
    if options.command in ("sample", "all"):
        return sampled.run(options)
    return show.listing(runs=options.runs) if options.command == "list" else show.runs(options)


if __name__ == "__main__":
    sys.exit(main())
