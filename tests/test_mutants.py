# SPDX-License-Identifier: Apache-2.0
"""That `make mutants` can tell a mutant that breaks a test from one that breaks none."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.mutants import ROOT, mutants, passes


def test_the_module_as_it_is_breaks_no_test_and_a_mutant_of_it_does():
    mutant, tests = (
        next(mutants(ROOT / "lightning_gradwatch" / "rules" / "dead.py")),
        [ROOT / "tests/rules/test_dead.py"],
    )
    assert passes(replace(mutant, new=mutant.old), tests)
    assert not passes(mutant, tests)
