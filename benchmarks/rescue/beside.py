# SPDX-License-Identifier: Apache-2.0
"""Results of an earlier run, of other methods, that go into the same table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import isclose
from pathlib import Path

from benchmarks.rescue.measure import Result
from benchmarks.rescue.methods import METHODS

Earlier = dict[tuple[str, int], Result]
BY_METHOD = ("values", "ratio", "rescued")


def read(path: Path) -> Earlier:
    """The raw results that a run left beside its table, by pair and seed."""
    results = map(json.loads, path.read_text().splitlines())
    return {(result["pair"], result["seed"]): result for result in results}


def require(earlier: Earlier, wanted: Iterable[tuple[str, int]]) -> None:
    """Before hours of training: whether all pairs and seeds are there.

    Raises:
        ValueError: Some are not.
    """
    missing = [f"{pair} seed {seed}" for pair, seed in wanted if (pair, seed) not in earlier]
    if missing:
        raise ValueError(f"the earlier run lacks {', '.join(missing)}. Train them there, or leave them out here.")


def methods(earlier: Earlier) -> tuple[str, ...]:
    """What was trained then."""
    return tuple(name for name in METHODS if any(name in result["values"] for result in earlier.values()))


def joined(before: Result, result: Result) -> Result:
    """Both as one result. What either rescued, or the oracle then, can be rescued.

    Raises:
        ValueError: The sound runs differ: the results are of another model, data or version of torch.
    """
    if not isclose(before["sound"], result["sound"], rel_tol=1e-6):
        raise ValueError(
            f"{result['pair']} seed {result['seed']}: the sound run ends at {result['sound']}, in the earlier results"
            f" at {before['sound']}. They cannot be compared; train the other methods again."
        )
    both = {
        kind: {name: part[kind][name] for name in METHODS for part in (before, result) if name in part[kind]}
        for kind in BY_METHOD
    }
    seconds = round(before["seconds"] + result["seconds"], 1)
    return result | both | {"oracle": result["oracle"] or before["oracle"], "seconds": seconds}
