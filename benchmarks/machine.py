# SPDX-License-Identifier: Apache-2.0
"""How figures were made."""

from __future__ import annotations

import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "pytorch-lightning", "numpy", "scikit-learn", "lightning-gradwatch")


def made_by(command: str, seconds: float) -> str:
    """One line: the command, the day, how long it took, the machine and the versions."""
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    machine = f"{os.cpu_count()} cores ({platform.machine()}, Python {platform.python_version()}, {versions})"
    return f"Made by `{command}` on {date.today()} in {seconds / 60:.1f} minutes on {machine}."


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
