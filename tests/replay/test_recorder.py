# SPDX-License-Identifier: Apache-2.0
"""`ExplosionDetector(dump_dir=...)` keeps what repeats the step of an alarm, gradient for gradient."""

import copy
import dataclasses
import errno
import math
import os
import re
from collections import OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, default_collate

from lightning_gradwatch import AdaptiveClipper, ExplosionDetector
from lightning_gradwatch.replay import files as dumping
from lightning_gradwatch.replay.files import DumpFolder, plain

REPLAY = (Path(__file__).parents[2] / "docs" / "howto" / "replay.md").read_text(encoding="utf-8")


def poisoned(kit, factors, batches=40):
    """The batches of `kit.rows`, some with their targets multiplied."""
    loader = kit.rows(batches)
    y = loader.dataset.tensors[1]
    for batch, factor in factors.items():
        y[8 * batch : 8 * batch + 8] *= factor
    return loader


def noisy(kit):
    """A module whose gradient depends on dropout, batch statistics, a buffer that counts, and all random numbers."""

    class Noisy(kit.Net):
        def __init__(self):
            super().__init__(lambda p: torch.optim.AdamW(p, lr=0.01))
            self.norm = nn.BatchNorm1d(6)
            self.register_buffer("calls", torch.zeros(()))

        def training_step(self, batch, batch_idx):
            x, y = batch
            self.calls += 1
            x = self.norm(x) * self.calls * (1 + batch_idx) + x + float(np.random.rand())
            return nn.functional.mse_loss(self.net(x), y)

    torch.manual_seed(1)
    return Noisy()


class Gradients:
    """What the gradients were when the optimizer got them, at each step, by the module's own last hook."""

    def __init__(self, module):
        self.steps = []
        module.on_before_optimizer_step = lambda _: self.steps.append([bits(p.grad) for p in module.parameters()])


def bits(gradient):
    return None if gradient is None else gradient.clone().view(torch.int32)


def replay(module, path):
    """By the lines in docs/howto/replay.md, after the other random numbers that they leave out."""
    _, lines = re.findall(r"^```python\n(.*?)^```", REPLAY, flags=re.MULTILINE | re.DOTALL)
    name, keys, *rest = torch.load(path, weights_only=True)["batches"][0]["rng"]["numpy"]
    np.random.set_state((name, keys.numpy(), *rest))
    place = {"model": module}
    exec(re.sub(r'"evidence/[^"]+"', repr(str(path)), lines), place)
    return place["dump"]


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize(("factor", "kind"), [(math.nan, "nonfinite"), (1e6, "spike")])
def test_a_replay_makes_the_same_gradient_bit_for_bit(kit, tmp_path, accumulated, factor, kind):
    module = noisy(kit)
    gradients = Gradients(module)
    detector = ExplosionDetector(nonfinite="warn", dump_dir=tmp_path / "kept")
    loader = poisoned(kit, {31: factor})
    kit.fit(module, [detector], steps=40 // accumulated, loader=loader, accumulate_grad_batches=accumulated)
    (path,) = (tmp_path / "kept").iterdir()
    step = 31 // accumulated
    assert path.name == f"step_{step:08d}_{kind}_rank_0.pt"
    again = noisy(kit)
    dump = replay(again, path)
    assert len(dump["batches"]) == accumulated
    assert dump["event"]["step"] == step
    assert dump["steps_before"] == dump["batches_lost"] == 0
    assert dump["changed"] == []
    repeated = [bits(p.grad) for p in again.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(gradients.steps[step], repeated, strict=True))
    assert kind == "spike" or not all(p.grad.isfinite().all() for p in again.parameters())


@pytest.mark.parametrize("action", ["clip", "skip", "stop"])
def test_the_weights_are_from_before_the_step_whatever_was_done(kit, tmp_path, action):
    detector = ExplosionDetector(action=action, max_norm=4.0, dump_dir=str(tmp_path))
    trace = kit.pull([1.0, 1.0, 8.0, 1.0], [detector, AdaptiveClipper()])
    dump = torch.load(tmp_path / "step_00000002_explosion_rank_0.pt", weights_only=True)
    assert torch.equal(dump["state_dict"]["w"], trace.weights[1])
    assert dump["batches"][0]["batch"][0].item() == 8.0
    assert dump["event"]["action_taken"]


def test_an_abort_leaves_its_evidence(kit, tmp_path):
    with pytest.raises(Exception, match="ALARM nonfinite"):
        kit.pull([1.0, math.nan], [ExplosionDetector(nonfinite="abort", dump_dir=tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001_nonfinite_rank_0.pt"]


def test_of_a_storm_the_first_is_kept(kit, tmp_path):
    kit.pull([1.0, *[math.nan] * 9, 1.0], [ExplosionDetector(dump_dir=tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001_nonfinite_rank_0.pt"]


def test_the_newest_stay_and_nothing_else_is_deleted(tmp_path):
    (tmp_path / "step_00000000_nonfinite_rank_0.pt").write_text("of another run")
    folder = DumpFolder(tmp_path, most=2)
    for step in (1, 2, 2, 3):
        folder.save(f"step_{step}", 0, {"step": step})
    assert folder.names == ["step_2", "step_3"]
    assert sorted(path.name[:6] for path in tmp_path.iterdir()) == ["step_0", "step_2", "step_3"]


def test_ranks_do_not_touch_each_others_files(tmp_path):
    folders = [DumpFolder(tmp_path, most=1) for _ in range(2)]
    for step in (1, 2):
        for rank, folder in enumerate(folders):
            folder.save(f"step_{step}", rank, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_2_rank_0.pt", "step_2_rank_1.pt"]


def test_a_resumed_run_goes_on_counting(kit, tmp_path):
    first = ExplosionDetector(dump_dir=tmp_path / "kept", max_dumps=1)
    trainer = kit.pull([1.0, math.nan, 1.0], [first]).trainer
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    second = ExplosionDetector(dump_dir=tmp_path / "kept", max_dumps=1, max_norm=4.0)
    loader = kit.column([1.0, math.nan, 1.0, math.nan, 8.0])
    kit.fit(kit.Lever(), [second], steps=5, loader=loader, ckpt_path=tmp_path / "a.ckpt")
    assert [path.name[:22] for path in (tmp_path / "kept").iterdir()] == ["step_00000004_explosio"]


def test_what_is_not_kept_as_it_was_is_told(kit, tmp_path, said):
    Pair = namedtuple("Pair", "x y")
    rows = poisoned(kit, {2: math.nan})
    loader = DataLoader(rows.dataset, batch_size=8, collate_fn=lambda batch: Pair(*default_collate(batch)))
    kit.fit(kit.net(), [ExplosionDetector(dump_dir=tmp_path)], steps=4, loader=loader)
    (path,) = tmp_path.iterdir()
    (sentence,) = torch.load(path, weights_only=True)["changed"]
    assert "Pair and is a tuple here" in sentence
    assert f"[gradwatch] {sentence}" in said()


def test_of_very_many_batches_for_one_step_the_last_64_are_kept(kit, tmp_path):
    detector = ExplosionDetector(dump_dir=tmp_path)
    kit.fit(kit.net(), [detector], steps=1, loader=poisoned(kit, {69: math.nan}, 70), accumulate_grad_batches=70)
    (path,) = tmp_path.iterdir()
    dump = torch.load(path, weights_only=True)
    assert [batch["batch_idx"] for batch in dump["batches"]] == list(range(6, 70))
    assert dump["batches_lost"] == 6


def test_nothing_is_kept_unless_asked_for(kit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    detector = ExplosionDetector()
    kit.pull([1.0, math.nan], [detector])
    assert not list(tmp_path.iterdir())
    assert "dumps" not in detector.state_dict()


def test_watching_with_dumps_leaves_everything_bit_identical(kit, tmp_path):
    def run(callbacks):
        torch.manual_seed(0)
        np.random.seed(0)
        module = noisy(kit)
        kit.fit(module, callbacks, loader=poisoned(kit, {31: 1e6}), steps=40)
        return kit.flat(module), torch.get_rng_state()

    bare, watched = run([]), run([ExplosionDetector(dump_dir=tmp_path)])
    assert all(torch.equal(a, b) for a, b in zip(bare, watched, strict=True))
    assert list(tmp_path.iterdir())


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("trouble", ["disk full", "a file in the way"])
def test_a_folder_that_cannot_be_written_is_told_once_and_the_training_goes_on(
    kit, tmp_path, monkeypatch, said, trouble
):
    if trouble == "disk full":
        monkeypatch.setattr(dumping.os, "replace", full)
    else:
        (tmp_path / "kept").write_text("in the way")
    detector = ExplosionDetector(dump_dir=tmp_path / "kept", max_norm=4.0)
    assert kit.pull([1.0, math.nan, 8.0, 1.0], [detector]).trainer.global_step == 4
    assert said().count("keeping the batch and the weights of an alarm failed") == 1
    assert not list((tmp_path / "kept").glob("*")) if trouble == "disk full" else True


Pair = namedtuple("Pair", "x y")


@dataclasses.dataclass
class Record:
    x: torch.Tensor


def test_plain_types_stay_as_they_are(tmp_path):
    batch = {"x": [torch.arange(3), (1, 2.5, "a", None)], 7: {"mask": torch.ones(2, dtype=torch.bool)}}
    changed = []
    torch.save(plain(batch, "batch", changed), tmp_path / "a.pt")
    read = torch.load(tmp_path / "a.pt", weights_only=True)
    assert changed == []
    assert repr(read) == repr(batch)


def test_what_is_not_plain_becomes_so_with_a_sentence(tmp_path):
    batch = [Pair(torch.ones(1), 2), Record(torch.ones(1)), OrderedDict(a=1), np.ones(2), np.float32(2), object()]
    changed = []
    torch.save(plain(batch, "batch", changed), tmp_path / "a.pt")
    read = torch.load(tmp_path / "a.pt", weights_only=True)
    assert repr(read) == repr([(torch.ones(1), 2), {"x": torch.ones(1)}, {"a": 1}, torch.ones(2).double(), 2.0, None])
    assert [sentence.split(" was ")[0] for sentence in changed] == [f"batch[{i}]" for i in range(6)]
    assert changed[0].endswith("and is a tuple here: only plain types are read back with weights_only=True.")


def test_a_small_view_does_not_bring_its_storage_along(tmp_path):
    torch.save(plain(torch.zeros(100_000)[:2], "batch", []), tmp_path / "a.pt")
    assert os.path.getsize(tmp_path / "a.pt") < 10_000


def test_the_file_is_a_copy(kit):
    weights = {"w": nn.Parameter(torch.ones(2))}
    kept = plain(weights, "state_dict", [])
    before = copy.deepcopy(kept)
    weights["w"].data.zero_()
    assert torch.equal(kept["w"], before["w"])
    assert type(kept["w"]) is torch.Tensor


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="`dump_dir` must be the name of a folder, got 3"):
        ExplosionDetector(dump_dir=3)
    with pytest.raises(ValueError, match="`max_dumps` must be a whole number of at least 1, got 0"):
        ExplosionDetector(max_dumps=0)
