# SPDX-License-Identifier: Apache-2.0
"""That `make mutants` can tell a mutant that breaks a test from one that breaks none."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.mutants import FOLDERS, NO_HARM, ROOT, mutants, passes, table


def test_the_module_as_it_is_breaks_no_test_and_a_mutant_of_it_does():
    mutant, tests = (
        next(mutants(ROOT / "lightning_gradwatch" / "rules" / "dead.py")),
        [ROOT / "tests/rules/test_dead.py"],
    )
    assert passes(replace(mutant, new=mutant.old), tests)
    assert not passes(mutant, tests)


def test_a_number_in_the_file_of_a_package_is_replaced_too():
    mutant = next(mutants(ROOT / "lightning_gradwatch" / "rules" / "__init__.py"))
    name = "test_rules_in_a_plain_loop_start_from_the_numbers_that_the_callbacks_are_documented_with"
    test = ROOT / f"tests/rules/test_ruleset.py::{name}"
    assert passes(replace(mutant, new=mutant.old), [test])
    assert not passes(mutant, [test])


def test_a_mutant_that_does_no_harm_is_listed_with_the_reason_and_not_counted_among_those_that_break_no_test():
    every = [
        m for folder in FOLDERS for path in (ROOT / "lightning_gradwatch" / folder).glob("*.py") for m in mutants(path)
    ]
    harmless = [mutant for mutant in every if mutant.harmless]
    assert {mutant.harmless for mutant in harmless} == set(NO_HARM.values())  # all of them exist
    bad = next(mutant for mutant in every if not mutant.harmless)
    text = table(10, 10, [harmless[0], bad], 1.0)
    assert "8 break a test, 1 do no harm, 1 break none:\n" in text
    assert f"- `{bad}`\n" in text
    assert f"- `{harmless[0]}`: no harm; {harmless[0].harmless}\n" in text
