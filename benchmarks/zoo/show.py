# SPDX-License-Identifier: Apache-2.0
"""Single runs and lists, for who writes a rule."""

from __future__ import annotations

import argparse
from fnmatch import fnmatch

from benchmarks.zoo.compose import Spec, every
from benchmarks.zoo.family import FAMILIES
from benchmarks.zoo.fault import FAULTS, Fault
from benchmarks.zoo.measure import Result, measure
from benchmarks.zoo.optimizers import SETTINGS
from benchmarks.zoo.variation import VARIATIONS
from lightning_gradwatch import GradientEvent


def listing(*, runs: bool) -> int:
    """Prints what there is."""
    if runs:
        print(*(f"{spec.name}  ({spec.row})" for spec in every()), sep="\n")
        return 0
    print(f"families ({len(FAMILIES)})", *(f"  {f.name:<24}{f.side}" for f in FAMILIES.values()), sep="\n")
    print(f"optimizers ({len(SETTINGS)})", *(f"  {name}" for name in SETTINGS), sep="\n")
    print(f"faults ({len(FAULTS)})", *(f"  {f.name:<24}{f.side:<10}{f.causes[0]}" for f in FAULTS.values()), sep="\n")
    print(
        f"healthy ({len(VARIATIONS)})",
        *(f"  {v.name:<24}{v.side:<10}{v.reason}" for v in VARIATIONS.values()),
        sep="\n",
    )
    return 0


def runs(options: argparse.Namespace) -> int:
    """Trains the runs of that name and prints their events."""
    specs = [spec for spec in every() if fnmatch(spec.name, options.name)]
    open_ones = [spec for spec in specs if options.left_out or spec.row == "tuning"]
    for spec in open_ones:
        said(spec, measure(spec.name, options.seed, options.callbacks))
    if not specs:
        print(f"no run is called {options.name!r}: family/optimizer/change, see `python -m benchmarks.zoo list`")
    elif len(open_ones) < len(specs):
        print(f"{len(specs) - len(open_ones)} more are left out of tuning; --left-out runs them, to report only")
    return not open_ones


def said(spec: Spec, result: Result) -> None:
    """Prints one run."""
    label = "sick" if spec.sick else "healthy"
    print(
        f"== {spec.name} seed {result['seed']}: {label}, {spec.row},"
        f" label {'proven' if result['proven'] else 'NOT PROVEN'}"
    )
    print(f"   {result['outcome']}; {result['steps']} steps; changed: {result['changed']}; {result['seconds']} s")
    if isinstance(spec.change, Fault):
        print(
            f"   expected: {'/'.join(sorted(spec.change.kinds))}; layer {result['layer']}; from step {result['onset']}"
        )
        print(f"   cause: {', or '.join(spec.change.causes)}")
    if "error" in result:
        print(f"   CRASHED: {result['error']}")
    for event in result["events"]:
        print(GradientEvent.from_dict(event))
