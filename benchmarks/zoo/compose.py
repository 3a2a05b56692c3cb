# SPDX-License-Identifier: Apache-2.0
"""From a name to a run: ``family/optimizer/change``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from zlib import crc32

import torch

from benchmarks.zoo import loading  # noqa: F401  declares all families, faults and variations
from benchmarks.zoo.core import Run
from benchmarks.zoo.family import FAMILIES, Family, Side
from benchmarks.zoo.fault import FAULTS, Fault
from benchmarks.zoo.loops import several
from benchmarks.zoo.optimizers import SETTINGS, Setting
from benchmarks.zoo.variation import VARIATIONS, Variation

SOUND = "sound"
ROWS = ("tuning", "families left out", "faults left out", "both left out")


@dataclass(frozen=True)
class Spec:
    """One run of the zoo, without its seed."""

    family: Family
    setting: str
    change: Fault | Variation

    @property
    def name(self) -> str:
        """``family/optimizer/change``."""
        return f"{self.family.name}/{self.setting}/{self.change.name}"

    @property
    def sick(self) -> bool:
        """The label."""
        return isinstance(self.change, Fault)

    @property
    def row(self) -> str:
        """Which row of the report it counts for."""
        left: dict[Side, int] = {"tuning": 0, "left out": 1}
        return ROWS[left[self.family.side] + 2 * left[self.change.side]]

    @property
    def twin(self) -> Spec:
        """The same without the change."""
        return Spec(self.family, self.setting, VARIATIONS[SOUND])

    def build(self, seed: int) -> Run:
        """The run of one seed: equal seeds give equal weights and batches, with and without the change."""
        torch.manual_seed(seed)
        run = base(self.family, SETTINGS[self.setting])
        torch.manual_seed(seed + 1)
        self.change.patch(run)
        return run


def base(family: Family, setting: Setting) -> Run:
    """The sound run."""
    task, rate = family.make(), family.sgd if setting.style == "sgd" else family.adam
    if rate is None:
        raise ValueError(f"{family.name} does not learn under SGD; take an Adam-like optimizer.")
    steps = len(task.batches)
    run = Run(task, setting.times * rate, lambda step: setting.schedule(step / steps), setting.make)
    run.stepper = family.stepper(run) if family.stepper else several if setting.several else None
    return run


@cache
def tags(family: str, setting: str) -> frozenset[str]:
    """What a sound run is made of."""
    torch.manual_seed(0)
    run, chosen = base(FAMILIES[family], SETTINGS[setting]), SETTINGS[setting]
    loop = {"manual"} if run.stepper else set()
    own = {"own loop"} if FAMILIES[family].stepper else set()
    return run.task.tags | {chosen.style, setting} | loop | own | ({"several"} if chosen.several else set())


def settings(family: Family) -> list[str]:
    """The optimizers that train a family."""
    usable = [n for n, s in SETTINGS.items() if n not in family.skip and (s.style == "adam" or family.sgd is not None)]
    return [n for n in usable if not (family.stepper and SETTINGS[n].several)]


def find(name: str) -> Spec:
    """The run of that name.

    Raises:
        ValueError: There is none, or the change does not fit.
    """
    parts = name.split("/")
    changes: dict[str, Fault | Variation] = {**FAULTS, **VARIATIONS}
    if len(parts) != 3 or parts[0] not in FAMILIES or parts[1] not in SETTINGS or parts[2] not in changes:
        raise ValueError(
            f"{name!r} is no run: family/optimizer/change, each as `python -m benchmarks.zoo list` has it."
        )
    spec = Spec(FAMILIES[parts[0]], parts[1], changes[parts[2]])
    if not spec.change.fits(tags(parts[0], parts[1])):
        needs = ", ".join(sorted(spec.change.needs)) or "nothing"
        without = ", ".join(sorted(spec.change.unless)) or "nothing"
        raise ValueError(f"{name!r}: {parts[2]} needs {needs} and goes without {without}.")
    return spec


def every() -> Iterator[Spec]:
    """All runs, in a fixed order."""
    for family in FAMILIES.values():
        for setting in settings(family):
            changes: list[Fault | Variation] = [*VARIATIONS.values(), *FAULTS.values()]
            for change in changes:
                if change.fits(tags(family.name, setting)):
                    yield Spec(family, setting, change)


def rank(name: str, salt: int = 0) -> int:
    """A number that is the same on each machine and has nothing to do with what the name means."""
    return crc32(f"{salt}:{name}".encode())


def whole() -> list[Spec]:
    """Each change of each family, under two optimizers that a hash picks; sound runs under all."""
    cells: dict[tuple[str, str], list[Spec]] = {}
    for spec in every():
        cells.setdefault((spec.family.name, spec.change.name), []).append(spec)
    return [
        spec
        for (_, change), specs in cells.items()
        for spec in sorted(specs, key=lambda spec: rank(spec.name))[: None if change == SOUND else 2]
    ]


def sample(size: int, salt: int = 0) -> list[Spec]:
    """At most `size` runs of the whole, one in three healthy, spread evenly over families and changes."""
    chosen = list[Spec]()
    for sick, part in ((True, size - size // 3), (False, size // 3)):
        pool = sorted((s for s in whole() if s.sick is sick), key=lambda spec: rank(spec.name, salt))
        used: dict[str, int] = {}
        for _ in range(min(part, len(pool))):
            # the pair whose family and change were drawn least; the hash decides between equals
            best = min(pool, key=lambda s: used.get(s.change.name, 0) + used.get(f"{s.family.name}/", 0))
            pool.remove(best)
            chosen.append(best)
            for key in (best.change.name, f"{best.family.name}/"):
                used[key] = used.get(key, 0) + 1
    return chosen
