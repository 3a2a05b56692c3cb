# SPDX-License-Identifier: Apache-2.0
"""What the package itself promises."""

import subprocess
import sys

import pytest

import lightning_gradwatch


def run(code):
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("first", ["measure", "ExplosionDetector", "NormClip"])
def test_measure_is_the_function_whatever_is_imported_first(first):
    lines = [
        f"from lightning_gradwatch import {first}",
        "from lightning_gradwatch import measure",
        "assert callable(measure)",
    ]
    done = run("\n".join(lines))
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    missing = [name for name in lightning_gradwatch.__all__ if not hasattr(lightning_gradwatch, name)]
    assert not missing
    assert sorted(lightning_gradwatch.__all__) == lightning_gradwatch.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_like_that"):
        lightning_gradwatch.nothing_like_that  # noqa: B018


def test_the_recipe_for_a_plain_loop_needs_no_lightning():
    done = run(
        "import sys, torch\n"
        "from lightning_gradwatch.laws import NormClip\n"
        "from lightning_gradwatch.measurement.measure import measure\n"
        "from lightning_gradwatch.rules import explosion_rules\n"
        "assert not {'lightning', 'pytorch_lightning'} & sys.modules.keys()\n"
        "model = torch.nn.Linear(2, 1)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "rules, law, found = explosion_rules(max_norm=4.0), NormClip(max_norm=1.0), []\n"
        "for step in range(3):\n"
        "    optimizer.zero_grad()\n"
        "    loss = model(torch.ones(1, 2) * (9.0 if step == 1 else 0.1)).sum()\n"
        "    loss.backward()\n"
        "    snapshot = measure(model, step=step, loss=loss.item())\n"
        "    rules.losses.update(snapshot.loss)\n"
        "    found += rules.judge(snapshot)\n"
        "    for p in model.parameters(): p.grad.mul_(law.factor(torch.tensor(snapshot.total)))\n"
        "    law.update(snapshot.total)\n"
        "    assert measure(model).total < 1.001 or step != 1\n"
        "    optimizer.step()\n"
        "assert [(e.kind.value, e.step) for e in found] == [('explosion', 1)], found\n"
    )
    assert done.returncode == 0, done.stderr
