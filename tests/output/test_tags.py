# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest

from lightning_gradwatch.output.tags import is_logged, tag


def test_a_tag_ends_in_the_optimizer_where_there_are_several_and_in_the_name():
    assert tag("grad_norm/total") == "grad_norm/total"
    assert tag("grad_norm/total", 1, 2) == "grad_norm/total/opt1"
    assert tag("grad_norm/total", 0, 1, "mine") == "grad_norm/total/mine"
    assert tag("grad_norm/total", 0, 2, "mine") == "grad_norm/total/opt0/mine"


@pytest.mark.parametrize(("every", "own", "steps"), [(3, None, [2, 5]), (1, 4, [3]), (0, None, []), (0, 2, [1, 3, 5])])
def test_steps_are_logged_where_self_log_logs_or_at_an_interval_of_their_own(every, own, steps):
    trainer = SimpleNamespace(log_every_n_steps=every)
    assert [step for step in range(6) if is_logged(trainer, step, own)] == steps
