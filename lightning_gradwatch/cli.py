# SPDX-License-Identifier: Apache-2.0
"""The command `gradwatch`: a report of a run that was logged, and a demonstration.

Exit codes: 0 all is well, 1 what ``--fail-on`` names was found, 2 there is nothing to work on, or bad usage.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from lightning_gradwatch import __version__
from lightning_gradwatch.tensorboard.report import load, render
from lightning_gradwatch.tensorboard.summary import summary

_SEVERITIES = {"alarm": {"alarm"}, "warning": {"alarm", "warning"}}
_EXAMPLES = (Path(__file__).parent, Path(__file__).parents[1])  # in the wheel, and beside the package in a checkout


class CommandError(Exception):
    """Why the command cannot do its work, and what to do, in a sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    given = _parser().parse_args(arguments)
    try:
        return demo() if given.command == "demo" else report(given.run_dir, given.html, given.fail_on)
    except CommandError as error:
        print(f"gradwatch: {error}", file=sys.stderr)
        return 2


def report(directory: Path, html: Path | None, fail_on: str | None) -> int:
    """Prints what is known of the runs in and below `directory`, and writes the page.

    Args:
        directory: Of the event files.
        html: Where the page goes; ``gradwatch.html`` in `directory` without it.
        fail_on: The lowest severity of an event that makes the answer 1; None for none.

    Raises:
        CommandError: There is no such directory, no record in it, or the page cannot be written.
    """
    if not directory.is_dir():
        raise CommandError(f"{directory} is no directory: give the one where your logger put its event files.")
    runs = load(directory)
    if not runs:
        raise CommandError(
            f"No gradient records in {directory}: train with GradientNormLogger() and a TensorBoardLogger first."
        )
    for name, run in runs.items():
        _say("\n".join(summary(name, run)) + "\n")
    page = directory / "gradwatch.html" if html is None else html
    try:
        page.write_text(render(runs), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{page} cannot be written ({error.strerror}): name another file with --html.") from error
    _say(f"All views in one page: {page}")
    events = [event for run in runs.values() for history in run.histories.values() for event in history.events]
    return int(any(event["severity"] in _SEVERITIES.get(fail_on or "", ()) for event in events))


def _say(text: str) -> None:
    """Prints; where nobody reads any more, such as behind ``| head``, the work goes on in silence."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def demo() -> int:
    """Runs the first example, and says how to look at what it logged.

    Raises:
        CommandError: The example or its data is not installed.
    """
    if find_spec("sklearn") is None:
        raise CommandError("The demonstration trains on scikit-learn's digits: pip install scikit-learn.")
    found = [path for home in _EXAMPLES if (path := home / "examples" / "explosion.py").is_file()]
    if not found:
        raise CommandError("examples/explosion.py is not in this installation: get it from the source distribution.")
    runpy.run_path(str(found[0]), run_name="__main__")
    print("There, open the tab GradWatch. Or without a server:  gradwatch report runs/explosion")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gradwatch", description="Gradient health of PyTorch Lightning runs.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    about = commands.add_parser("report", help="print the summary of a run, and write all views into one HTML file")
    about.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a directory with event files in or below it")
    about.add_argument("--html", type=Path, metavar="FILE", help="the page; RUN_DIR/gradwatch.html if not given")
    about.add_argument("--fail-on", choices=_SEVERITIES, help="exit with 1 if there was an event as bad as this")
    commands.add_parser("demo", help="train a network that explodes, bare and watched; takes half a minute")
    return parser
