# SPDX-License-Identifier: Apache-2.0
"""A loader that a checkpoint can hold, for tests and benchmarks that resume."""

from __future__ import annotations

from itertools import islice
from typing import Any

from torch.utils.data import DataLoader


class Resumable(DataLoader[Any]):
    """Goes on after the last batch that was used, so that Lightning resumes within an epoch and repeats none."""

    used = 0

    def __iter__(self) -> Any:  # noqa: ANN401  torch promises an iterator class of its own
        """The batches that are left."""
        self.used %= len(self)
        for batch in islice(super().__iter__(), self.used, None):
            self.used += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """For the Trainer's checkpoint."""
        return {"used": self.used}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on from there."""
        self.used = state["used"]
