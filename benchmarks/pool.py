# SPDX-License-Identifier: Apache-2.0
"""Many runs in several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def each(function: Callable[[Job], Result], jobs: Iterable[Job], processes: int) -> Iterator[Result]:
    """`function` of each job, in the order of `jobs`. Both are sent to the workers: only names can be, no lambdas."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the workers when they import torch
    with get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(function, jobs)
