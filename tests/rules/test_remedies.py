# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lightning_gradwatch.rules.remedies import TABLE, likely, remedies

ROWS = sorted(TABLE)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_a_cause_and_at_most_three_short_remedies_with_its_id_and_a_source(row):
    found = remedies(row)
    assert likely(row)
    assert len(found) <= 3
    assert {remedy.id for remedy in found} <= {f"GW-{row:02d}"}
    assert all(remedy.source and 0 < len(remedy.text) <= 80 for remedy in found)
    assert len({remedy.text for remedy in found}) == len(found)


def test_only_a_calibrating_scaler_needs_no_remedy():
    assert [row for row in ROWS if not remedies(row)] == [12]


def test_ids_are_never_reused():
    assert sorted(TABLE)[:28] == [*range(1, 29)]


def test_every_symptom_is_named_once():
    symptoms = {row.symptom for row in TABLE.values()}
    assert len(symptoms) == len(TABLE)
    assert all(symptoms)


def test_a_row_outside_the_table_is_an_error():
    with pytest.raises(KeyError):
        remedies(0)
