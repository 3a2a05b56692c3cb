# SPDX-License-Identifier: Apache-2.0
"""Does a test break when a constant of a rule or a law is wrong? ``python -m benchmarks.mutants``.

Each number that stands at the top of a module, in a class body or as a default in rules/ and laws/ is multiplied and
divided by three, one at a time, and the tests of that folder run on it in a fork. Not mutmut or cosmic-ray: they change
operators and single digits too, and start the tests' processes, with torch, thousands of times.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib.machinery import ModuleSpec, SourceFileLoader
from math import inf
from pathlib import Path
from random import Random
from types import CodeType, ModuleType

ROOT = Path(__file__).parents[1]
FOLDERS = ("rules", "laws")
TIMEOUT = 900
NO_HARM = {
    "laws.base.apply_(scale)": "a default of an abstract method, which nothing reads",
    "laws.layer_lr.BEYOND": "a place in a list whose order alone counts; its number is not read",
    "laws.layer_lr.STILL": "a place in a list whose order alone counts; its number is not read",
    "rules.culprits.(_WARNED, _ALARMED)": "ranks that are compared only: whatever is above the first says the same",
    "rules.growth._MOST_POINTS": "cost and precision only: how many points the slope of a long window is taken from",
    "rules.vanishing_depth._FORGET": "a lower one decides nothing: such shares are too far from the half that does",
}
"""By module and name: why no test can, or should, break where that number is wrong. The table lists them apart."""


@dataclass(frozen=True)
class Mutant:
    """One number replaced."""

    path: Path
    name: str
    node: tuple[int, int, int]
    old: float
    new: float

    @property
    def module(self) -> str:
        """Its dotted name, as it is imported by."""
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    @property
    def harmless(self) -> str | None:
        """Why no test has to break on it; None if one has to."""
        return NO_HARM.get(f"{self.module.partition('.')[2]}.{self.name}")

    def source(self) -> str:
        """The module's text with the number replaced."""
        lines = self.path.read_bytes().splitlines(keepends=True)
        line, start, end = self.node
        lines[line - 1] = lines[line - 1][:start] + repr(self.new).encode() + lines[line - 1][end:]
        return b"".join(lines).decode()

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.node[0]} {self.name} {self.old:g} -> {self.new:g}"


def mutants(path: Path) -> Iterator[Mutant]:
    """All of one module."""
    for name, node in numbers(ast.parse(path.read_text(encoding="utf-8"))):
        old = node.value
        if isinstance(old, bool) or not isinstance(old, int | float) or not old or node.end_col_offset is None:
            continue
        for new in (old * 3, max(old // 3, 1) if isinstance(old, int) else old / 3):
            if new != old:
                yield Mutant(path, name, (node.lineno, node.col_offset, node.end_col_offset), old, new)


def numbers(tree: ast.Module) -> Iterator[tuple[str, ast.Constant]]:
    """The constants that have a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef):
            for statement in node.body:
                if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                    target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
                    yield from ((ast.unparse(target), number) for number in constants(statement.value))
        if isinstance(node, ast.FunctionDef):
            names = [*node.args.posonlyargs, *node.args.args]
            given = [*zip(names[len(names) - len(node.args.defaults) :], node.args.defaults, strict=True)]
            given += [(a, d) for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d is not None]
            for argument, default in given:
                yield from ((f"{node.name}({argument.arg})", number) for number in constants(default))


def constants(value: ast.expr) -> Iterator[ast.Constant]:
    """A number, or the numbers of a tuple."""
    for part in value.elts if isinstance(value, ast.Tuple) else [value]:
        if isinstance(part, ast.Constant):
            yield part


class _Loader(SourceFileLoader):
    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.module, str(mutant.path))
        self.mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.mutant.source(), str(self.mutant.path), "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.mutant.module:
            return None
        return importlib.util.spec_from_file_location(fullname, self.mutant.path, loader=_Loader(self.mutant))


def survives(mutant: Mutant) -> bool:
    """Whether all tests of rules and laws pass on it that may know it; those that name what it defines go first."""
    tests = sorted((ROOT / "tests" / mutant.path.parent.name).glob("test_*.py"))
    tests += sorted((ROOT / "tests" / "diagnosis").glob("test_rules_*.py"))
    texts = {path: path.read_text(encoding="utf-8") for path in tests}
    defined = [
        node.name for node in ast.parse(mutant.source()).body if isinstance(node, ast.ClassDef | ast.FunctionDef)
    ]
    near = [path for path, text in texts.items() if any(name in text for name in defined) and "hypothesis" not in text]
    return passes(mutant, near) and passes(mutant, [path for path in tests if path not in near])


def passes(mutant: Mutant, tests: Sequence[Path]) -> bool:
    """Whether these tests pass on it. In a fork, which has imported all but the package and its tests."""
    if not tests:
        return True
    child = os.fork()
    if child == 0:
        signal.alarm(TIMEOUT)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        for name, module in [*sys.modules.items()]:
            ours = name.partition(".")[0] == "lightning_gradwatch"
            if ours or (getattr(module, "__file__", None) or "").startswith(str(ROOT / "tests")):
                del sys.modules[name]  # tests too: those that pytest has collected hold the module as it was
        sys.meta_path.insert(0, _Finder(mutant))
        rewrite = "ignore::pytest.PytestAssertRewriteWarning"  # of hypothesis, which is imported already
        arguments = ["-qx", "-p", "no:cacheprovider", "-W", rewrite, *map(str, tests)]
        os._exit(int(importlib.import_module("pytest").main(arguments)))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> int:
    """Runs, writes, prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("--only", default="*.py", help="pattern of file names")
    parser.add_argument(
        "--minutes", type=float, default=inf, help="stop after so many; those tried are drawn at random"
    )
    parser.add_argument("--out", type=Path, help="where the table goes")
    options, start = parser.parse_args(), time.perf_counter()
    for name in ("torch", "numpy", "hypothesis", "lightning.pytorch", "pytorch_lightning", "pytest"):
        importlib.import_module(name)
    paths = [path for folder in FOLDERS for path in sorted((ROOT / "lightning_gradwatch" / folder).glob(options.only))]
    every = [mutant for path in paths for mutant in mutants(path)]
    Random(0).shuffle(every)
    for mutant in {mutant.path.parent: mutant for mutant in every}.values():
        if not survives(replace(mutant, new=mutant.old)):
            raise RuntimeError(f"the tests of {mutant.path.parent.name}/ fail on the module as it is")
    tried, left = 0, []
    for mutant in every:
        if time.perf_counter() - start > 60 * options.minutes:
            break
        tried += 1
        if survives(mutant):
            left.append(mutant)
            print(f"survives: {mutant}{f' ({mutant.harmless})' if mutant.harmless else ''}", flush=True)
    text = table(len(every), tried, left, (time.perf_counter() - start) / 60)
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    return int(any(mutant.harmless is None for mutant in left))


def table(every: int, tried: int, left: Sequence[Mutant], minutes: float) -> str:
    """The result as Markdown."""
    drawn = f", {tried} of them drawn at random" if tried < every else ""
    harmless = [mutant for mutant in sorted(left, key=str) if mutant.harmless]
    others = [mutant for mutant in sorted(left, key=str) if not mutant.harmless]
    besides = f", {len(harmless)} do no harm" if harmless else ""
    lines = [
        f"{every} mutants of the constants in rules/ and laws/ (each x3 and /3){drawn}:"
        f" {tried - len(left)} break a test{besides}, {len(others)} break none{':' if left else '.'}",
        "",
        *(f"- `{mutant}`" for mutant in others),
        *(f"- `{mutant}`: no harm; {mutant.harmless}" for mutant in harmless),
        *([""] if left else []),
        f"Made by `python -m benchmarks.mutants` on {date.today()} in {minutes:.1f} minutes.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
