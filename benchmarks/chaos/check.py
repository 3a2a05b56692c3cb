# SPDX-License-Identifier: Apache-2.0
"""What must hold for every run. Each function yields a sentence for what does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isfinite
from pathlib import Path

import torch

from benchmarks.chaos.plan import Plan
from benchmarks.chaos.train import Seen

_LINE = re.compile(r"\[gradwatch\] (INFO|WARNING|ALARM) (\w+): step (\d+) ")
OURS = ("GradientExplosionError", "VanishingGradientError")


def broken(plan: Plan, seen: Seen, *, died: bool) -> Iterator[str]:
    """All that is wrong with one process."""
    yield from weights(plan, seen)
    yield from errors(plan, seen, died=died)
    yield from events(plan, seen)
    yield from reports(plan, seen)


def weights(plan: Plan, seen: Seen) -> Iterator[str]:
    """Never a non-finite weight while something guards it."""
    if seen.bad:
        yield f"weights were not finite after steps {seen.bad[:5]}"
    if not all(map(isfinite, seen.weights)):
        yield "weights are not finite at the end"


def errors(plan: Plan, seen: Seen, *, died: bool) -> Iterator[str]:
    """What the user raises arrives unchanged; nothing else but our own aborts does."""
    if seen.error is None:
        return
    kind, text = seen.error
    if kind == "UserError":
        who = plan.raises[0] if plan.raises is not None else plan.death[1] if plan.death is not None else None
        if text != f"{who} of seed {plan.seed}" and not died:
            yield f"the user's exception was changed to {text!r}"
    elif kind in OURS:
        if not any(fact[1] == "alarm" or fact[0] == "nonfinite" for heard in seen.heard for fact in heard):
            yield f"{kind} without an event"
    elif not (died and kind == "SIGTERMException") and not _of_the_logger(plan, seen):
        yield f"{kind}: {text[:300]}"


def _of_the_logger(plan: Plan, seen: Seen) -> bool:
    """Whether it is what Lightning raises by itself where a folder cannot be made."""
    return plan.logger == "file in the way" and seen.error is not None and "[Errno" in seen.error[1] and not seen.ours


def events(plan: Plan, seen: Seen) -> Iterator[str]:
    """What is kept, said and heard is the same."""
    callback, module = (set(heard) for heard in seen.heard)
    raises = plan.raises is not None and "on_gradient_event" in plan.raises[0]
    if not raises and callback != module:
        yield f"callback and module heard different events: {callback ^ module}"
    for line in seen.said:
        found = _LINE.match(line)
        if found is None:
            continue
        severity, kind, step = found.groups()
        if not any(f[:3] == (kind, severity.lower(), int(step)) for f in {*seen.kept, *callback, *module}):
            yield f"said, but neither kept nor heard: {line.splitlines()[0]}"
    kept = set(seen.kept)
    if not raises and kept - callback - set(seen.before):
        yield f"kept, but not heard: {kept - callback - set(seen.before)}"
    if lost := {f for f in callback if f[0] != "nonfinite"} - kept - set(seen.unasked):
        yield f"heard, but not kept: {lost}"


def reports(plan: Plan, seen: Seen) -> Iterator[str]:
    """Each kind has its tag, and a broken logger is named once."""
    for kind in seen.counts if seen.tags is not None and seen.error is None else ():
        if not any(tag.startswith(f"grad_event/{kind}") for tag in seen.tags or ()):
            yield f"{kind} has no tag"
    failures = [line for line in seen.said if " failed" in line]
    if len(failures) != len(set(failures)):
        yield f"said twice: {failures}"
    if plan.logger == "raises" and seen.own > 4 and not any("Memory failed to write scalars" in f for f in failures):
        yield "the logger's failure was not said"
    ours = [line for line in failures if "failed to write" not in line]
    if ours:
        yield f"a report of ours failed by itself: {ours[0][:300]}"


def checkpoints(folder: Path) -> Iterator[str]:
    """Whatever moment the process died at, each file that is there loads, without unpickling."""
    for path in folder.glob("*.ckpt"):
        yield from _load(path)


def _load(path: Path) -> Iterator[str]:
    try:
        torch.load(path, weights_only=True)
    except Exception as error:  # whatever it raises: that it does not load is the finding
        yield f"{path.name} does not load: {error}"


def same(whole: Seen, resumed: Seen) -> Iterator[str]:
    """A resumed run ends as if it had not died."""
    for name in ("steps", "weights", "kept", "counts", "scales"):
        if repr(getattr(whole, name)) != repr(getattr(resumed, name)):
            yield f"resumed, {name} differ: {str(getattr(whole, name))[:150]} != {str(getattr(resumed, name))[:150]}"
