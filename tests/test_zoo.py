# SPDX-License-Identifier: Apache-2.0
"""The generator of the zoo: what it composes is the same each time, runs, and is split as it says."""

from __future__ import annotations

import pytest

from benchmarks.zoo.compose import ROWS, every, find, sample
from benchmarks.zoo.family import FAMILIES
from benchmarks.zoo.fault import FAULTS
from benchmarks.zoo.measure import measure
from benchmarks.zoo.report import cause, findings, mistakes, table
from benchmarks.zoo.sampled import one
from benchmarks.zoo.variation import VARIATIONS


def test_there_is_as_much_as_is_said():
    assert len(FAMILIES) >= 14
    assert len(FAULTS) >= 40
    assert len(VARIATIONS) >= 30


def test_names_are_unique_and_lead_back_to_their_run():
    names = [spec.name for spec in every()]
    assert len(set(names)) == len(names)
    assert [find(name).name for name in names[:: len(names) // 50]] == names[:: len(names) // 50]


def test_a_name_that_is_no_run_is_refused_with_what_it_lacks():
    with pytest.raises(ValueError, match="is no run: family/optimizer/change"):
        find("mlp/sgd/nothing_of_the_kind")


def test_every_fault_and_every_variation_fits_somewhere():
    met = {spec.change.name for spec in every()}
    assert met == {*FAULTS, *VARIATIONS}


def test_families_and_faults_are_on_both_sides_of_the_split():
    for things in (FAMILIES.values(), FAULTS.values()):
        sides = [thing.side for thing in things]
        assert 0.3 < sides.count("tuning") / len(sides) < 0.7
    assert {spec.row for spec in every()} == set(ROWS)


def test_a_sample_is_the_same_each_time_one_in_three_healthy_and_spread():
    first, again, other = sample(60), sample(60), sample(60, salt=1)
    assert [spec.name for spec in first] == [spec.name for spec in again]
    assert [spec.name for spec in first] != [spec.name for spec in other]
    assert sum(not spec.sick for spec in first) == 20
    assert len({spec.family.name for spec in first}) > 20


def test_equal_seeds_make_equal_runs():
    first, again = (measure("mlp/sgd/sound", 3) for _ in range(2))
    assert (first["outcome"], first["events"]) == (again["outcome"], again["events"])
    assert first["proven"]
    assert not first["changed"]


def test_a_composition_that_cannot_be_trained_ends_no_other(monkeypatch):
    def broken(*_):
        raise IndexError("no matrix")

    monkeypatch.setattr("benchmarks.zoo.sampled.measure", broken)
    result = one(("mlp/sgd/sound", 0))
    assert (result["proven"], result["error"]) == (False, "IndexError: no matrix")
    assert "crashed: `mlp/sgd/sound` seed 0: IndexError: no matrix" in mistakes([result])


@pytest.mark.slow
def test_a_run_with_a_fault_is_proven_found_and_named():
    results = [measure(name, 0) for name in ("mlp/sgd/nan_in_a_batch", "mlp/sgd/sound")]
    sick, healthy = results
    assert sick["proven"]
    assert [event["kind"] for event in findings(sick)] == ["nonfinite"]
    assert cause(sick) == "right"
    assert cause({**sick, "events": [{**findings(sick)[0], "remedies": [{"id": "GW-05"}]}]}) == "wrong"
    assert cause({**sick, "events": [{**findings(sick)[0], "remedies": [{"id": "GW-27"}]}]}) == "among others"
    assert cause({**sick, "events": [{**findings(sick)[0], "cause": None}]}) == "unknown"
    assert findings(healthy) == []
    rows = [line.split(" | ") for line in table(results).splitlines()]
    assert "1/1" in rows[3][1]
