# SPDX-License-Identifier: Apache-2.0
"""Rules that a user brings along are asked, kept in checkpoints, and act like ours."""

import pytest

from lightning_gradwatch import ExplosionDetector, GradientExplosionError, Severity, VanishingDetector
from lightning_gradwatch.rules import assert_scale_free, finding


class Doubling:
    """Finds a norm that has doubled from one step to the next."""

    def __init__(self, severity=Severity.WARNING):
        self.severity, self.last = severity, None

    def judge(self, snapshot):
        last, self.last = self.last, snapshot.total
        if last is None or not snapshot.total > 2 * last:
            return []
        said = f"grad norm {snapshot.total:g}, {snapshot.total / last:g} times the one before"
        return [
            finding(
                snapshot, said, value=snapshot.total / last, limit=2, severity=self.severity, remedies=["look at it"]
            )
        ]

    def state_dict(self):
        return {"last": self.last}

    def load_state_dict(self, state):
        self.last = state["last"]


class Absolute(Doubling):
    """Is not free of scale."""

    def judge(self, snapshot):
        return [finding(snapshot, "large", value=snapshot.total, limit=2)] if snapshot.total > 2 else []


@pytest.mark.parametrize("make", [ExplosionDetector, VanishingDetector])
def test_a_rule_of_the_users_own_is_asked_at_each_step(kit, said, make):
    detector = make(rules=[Doubling()])
    kit.pull([1.0, 1.0, 3.0, 3.0], [detector])
    assert [(e.kind.value, e.step) for e in detector.events] == [("custom", 2)]
    assert "WARNING custom: step 2 (epoch 0, batch 2): grad norm 3, 3 times the one before" in said()
    assert "try:    1) look at it" in said()


def test_its_alarm_acts_as_ours_do(kit):
    with pytest.raises(GradientExplosionError):
        kit.pull([1.0, 3.0], [ExplosionDetector(action="abort", rules=[Doubling(Severity.ALARM)])])


def test_each_optimizer_has_a_copy_and_the_given_one_stays_as_it_was(kit):
    rule = Doubling()
    kit.pull([1.0, 3.0], [ExplosionDetector(rules=[rule])])
    assert rule.last is None


def test_its_memory_is_in_the_checkpoint(kit, tmp_path):
    norms, loader = [1.0, 1.0, 3.0], kit.column([1.0, 1.0, 3.0])
    first, second = ExplosionDetector(rules=[Doubling()]), ExplosionDetector(rules=[Doubling()])
    kit.fit(kit.Lever(), [first], 2, loader).save_checkpoint(tmp_path / "c.ckpt")
    kit.fit(kit.Lever(), [second], len(norms), loader, ckpt_path=tmp_path / "c.ckpt")
    assert [event.kind.value for event in second.events] == ["custom"]


def test_a_rule_that_fails_ends_no_training_that_is_only_watched(kit, said):
    class Failing(Doubling):
        def judge(self, snapshot):
            raise RuntimeError("a mistake")

    kit.pull([1.0, 1.0], [ExplosionDetector(rules=[Failing()])])
    assert said().count("a mistake") >= 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Doubling(), "must be a list of rules"),
        ("spike", "must be a list of rules"),
        ([Doubling], "is a class, not an object"),
        ([3], r"but 3 has no judge\(\)"),
    ],
)
def test_what_is_no_rule_is_refused(given, words):
    with pytest.raises(TypeError, match=words):
        ExplosionDetector(rules=given)


def test_the_helper_tells_a_rule_that_is_free_of_scale_from_one_that_is_not(lab):
    layout = lab.stack(2)
    run = [lab.snapshot(layout, norm, step=i) for i, norm in enumerate([1.0, 1.0, 3.0])]
    assert_scale_free(Doubling, run)
    with pytest.raises(AssertionError, match="with the loss times 1e-06 the rule found"):
        assert_scale_free(Absolute, run)
    with pytest.raises(AssertionError, match="finds nothing"):
        assert_scale_free(Doubling, run[:2])
