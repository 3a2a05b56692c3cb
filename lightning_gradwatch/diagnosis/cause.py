# SPDX-License-Identifier: Apache-2.0
"""What is behind a finding."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """What is behind a finding.

    Attributes:
        text: One line.
        row: Of the table of remedies.
        layers: Where, worst first; empty if everywhere.
    """

    text: str
    row: int
    layers: tuple[str, ...] = ()
