# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from lightning_gradwatch import EventKind, GradientEvent, Severity
from lightning_gradwatch.output.console import Console, summary_line

EVENT = GradientEvent(
    EventKind.SPIKE, Severity.WARNING, 0, 0, 0, 0, None, 0, ("net",), 2.0, 1.0, "finding", action_taken="nothing"
)


def news(console, steps, **changes):
    events = [dataclasses.replace(EVENT, step=step, **changes) for step in steps]
    return [step for step, event in zip(steps, events, strict=True) if console.is_news(event, prints=True)]


def test_only_the_first_of_a_cause_is_news():
    assert news(Console(), range(100)) == [0]


def test_another_severity_or_optimizer_is_another_cause():
    console = Console()
    assert news(console, [0, 1]) == [0]
    assert news(console, [2, 3], severity=Severity.ALARM) == [2]
    assert news(console, [4, 5], optimizer=1) == [4]


def test_a_long_silence_makes_it_news_again():
    assert news(Console(), [0, 500, 1000, 1501]) == [0, 1501]


def test_what_keeps_coming_back_must_stay_away_for_twice_as_long_each_time():
    assert news(Console(), range(0, 20_000, 600)) == [0, 600]
    assert news(Console(), range(0, 1_000_000, 70_000)) == [70_000 * i for i in range(9)]
    steps = [sum(501 * 2**i for i in range(n)) for n in range(11)]
    assert news(Console(), steps) == steps
    assert steps[-1] < 1_000_000 < 2 * steps[-1]


def test_powers_of_ten_are_counted_aloud(said):
    news(Console(), range(1000))
    assert [line.partition("finding ")[2] for line in said().splitlines() if "of this kind" in line] == [
        f"({count} of this kind so far; they are counted, not printed)" for count in (10, 100, 1000)
    ]


def test_other_ranks_decide_alike_and_stay_silent(said):
    console = Console()
    assert [console.is_news(EVENT, prints=False) for _ in range(12)] == [True] + [False] * 11
    assert said() == ""


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ([], "nothing to report"),
        ([{}, {}], "nothing to report"),
        ([{"spike": 2}, {"spike": 1, "dead": 3}], "3 dead, 2 spike"),
    ],
)
def test_the_summary_counts_what_two_found_once(counts, text):
    assert summary_line(counts, 7) == f"[gradwatch] 7 optimizer steps: {text}"
