# SPDX-License-Identifier: Apache-2.0
"""Makes the table: ``python -m benchmarks.optimizers``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

from benchmarks.machine import made_by
from benchmarks.optimizers.measure import Row, measure
from benchmarks.optimizers.registry import ENTRIES
from benchmarks.pool import each

HEAD = (
    "optimizer",
    "watching",
    "five: loss",
    "worst",
    "same bits",
    "events",
    "100x: watched",
    "found",
    "five",
    "saved",
)
LAST = ("skip", "resume", "`Rewind`")


def yes(value: object) -> str:
    """A word for True, False and None."""
    return "-" if value is None else "yes" if value else "**no**"


def cells(row: Row) -> list[str]:
    """One line of the table."""
    if "error" in row:
        return [row["title"], f"does not run here: {row['error']}", *[""] * (len(HEAD) + len(LAST) - 2)]
    times = [f"x{row[key]:.3g}" if row.get(key) is not None else "-" for key in ("fast bare", "fast five")]
    return [
        row["title"],
        "same bits" if row["watching"] else "**changed**",
        f"x{row['ratio']:.3f}",
        f"x{row['worst']:.3f}",
        f"{row['same']:.0%}",
        ", ".join(row["events"]) or "none",
        times[0],
        yes(row["found"]),
        times[1],
        yes(row["saved"]),
        "no-op" if row["skip"] else "**moves**",
        row["resume"],
        row["rewind"],
    ]


def text(rows: list[Row], seeds: int, command: str, seconds: float) -> str:
    """The whole page."""
    ran = [row for row in rows if "error" not in row]
    table = [[*HEAD, *LAST], ["---"] * (len(HEAD) + len(LAST)), *map(cells, rows)]
    lines = [f"| {' | '.join(line)} |" for line in table]
    hard = [row for row in ran if row["saved"] is not None]
    quiet = sum(not row["events"] for row in ran)
    summary = (
        f"{len(ran)} optimizers ran, {len(rows) - len(ran)} did not. Final loss with the five, of the bare run, median"
        f" of {seeds} seeds: x{median(row['ratio'] for row in ran):.3f} at the median of the optimizers, at most"
        f" x{max(row['ratio'] for row in ran):.3f}; {sum(row['same'] for row in ran) / len(ran):.0%} of the runs end"
        f" with the same bits; {quiet} of {len(ran)} healthy runs had no event. At 100 times the rate {len(hard)} end"
        f" more than 10 % worse, of which {sum(bool(row['found']) for row in hard)} were found and"
        f" {sum(bool(row['saved']) for row in hard)} saved."
    )
    return "\n\n".join([summary, made_by(command, seconds), "\n".join(lines)]) + "\n"


def main() -> None:
    """Trains and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimizers", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="part of a title")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    chosen = [(i, options.seeds) for i, entry in enumerate(ENTRIES) if options.only in entry.title]
    start, rows = time.perf_counter(), list[Row]()
    for row in each(measure, chosen, options.jobs):
        rows.append(row)
        print(" | ".join(cells(row)), flush=True)
    command = f"python -m benchmarks.optimizers --seeds {options.seeds}"
    page = text(rows, options.seeds, command, time.perf_counter() - start)
    if options.out is not None:
        options.out.write_text(page)
    else:
        print(page)


if __name__ == "__main__":
    main()
