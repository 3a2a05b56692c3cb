# SPDX-License-Identifier: Apache-2.0
"""From symptom to likely cause and advice: one table, with stable ids."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_gradwatch.events import Remedy


@dataclass(frozen=True, slots=True)
class _Row:
    cause: str
    fixes: tuple[str, ...]  # cheapest first, at most three
    source: str


# The key is the number in the id: 8 is GW-08. Ids are never reused. The comment is the symptom that calls for the row.
_TABLE = {
    # The profile over depth falls by more than 1e3 towards the input; sigmoid or tanh.
    1: _Row(
        "small derivatives, multiplied over the layers",
        (
            "ReLU or GELU",
            "Xavier initialisation",
            "residual connections and normalisation",
        ),
        "Bengio 1994; Glorot 2010; He 2015, 2016; Ioffe 2015",
    ),
    # The same without saturating units.
    2: _Row(
        "the initialisation is too small: the signal collapses",
        ("remove the custom standard deviation", "He (ReLU) or Xavier (tanh) initialisation"),
        "He 2015; TheDeepChecker",
    ),
    # The profile over time falls below 1e-6, no progress.
    3: _Row(
        "the recurrent Jacobian is below 1",
        ("orthogonal recurrent weights, forget bias 1", "LSTM or GRU", "shorter truncation, or attention over time"),
        "Hochreiter 1997; Cho 2014; Pascanu 2013",
    ),
    # The profile over time far above 1, or spikes in a recurrent net.
    4: _Row(
        "the spectral radius of the recurrent weights is above 1",
        ("clip the norm, from the running median", "lower the learning rate", "orthogonal recurrent weights"),
        "Pascanu 2013",
    ),
    # Relative updates above 0.5 in many layers.
    5: _Row(
        "the learning rate is too high",
        ("learning rate / 10", "warm up over 100 steps or more", "aim at updates of 1e-3"),
        "CS231n; Goyal 2017",
    ),
    # Relative updates above 10 in the first steps.
    6: _Row(
        "inputs or targets are not normalised",
        ("standardise inputs and targets", "check their units"),
        "LeCun 1998; DeepDiagnosis",
    ),
    # The norm grows steadily, the loss rises.
    7: _Row(
        "the learning rate is just past stability, or a decay has the wrong sign",
        ("learning rate / 3", "clip the gradient", "check the sign of the weight decay"),
        "Cohen 2021",
    ),
    # One isolated spike.
    8: _Row(
        "an outlier batch",
        ("look at this batch", "clip the gradient", "leave the learning rate as it is"),
        "PaLM; ZClip",
    ),
    # Repeated spikes after a calm.
    9: _Row(
        "the optimizer's second moment is stale",
        ("beta2 of 0.95 to 0.99", "clip the update (StableAdamW)", "lower the learning rate"),
        "Wortsman 2023, arXiv 2304.13013",
    ),
    # A non-finite loss in the first steps, or made in the backward pass; the weights are finite.
    10: _Row(
        "log(0), sqrt(0), a division by 0, or 0/0 inside where()",
        ("clamp, or add an epsilon inside", "use the loss that takes logits"),
        "PyTorch documentation",
    ),
    # Non-finite values appear first in the inputs, or in every layer of a run that went well.
    11: _Row(
        "the input: a batch with NaN or inf",
        ("drop or repair the batch", "check the loader"),
        "UMLAUT; Lightning #4956",
    ),
    # The GradScaler skips fewer than 12 steps in a row.
    12: _Row("the GradScaler is calibrating", (), "torch.amp; Lightning #9799"),
    # The GradScaler skips on and on, or its scale is below 1.
    13: _Row(
        "a true overflow in half precision",
        ("train in bf16", "lower the learning rate", "keep normalisation and softmax in fp32"),
        "Micikevicius 2018; Hugging Face documentation",
    ),
    # More and more exact zeros in fp16 without a scaler.
    14: _Row(
        "underflow in half precision",
        ("switch the GradScaler on", "train in bf16"),
        "Micikevicius 2018",
    ),
    # Exactly no gradient from the start.
    15: _Row(
        "units that never fire, or a factor of 0",
        ("a bias of 0 or slightly above", "He initialisation", "LeakyReLU or GELU"),
        "Lu 2019; Maas 2013",
    ),
    # Exactly no gradient from some step on.
    16: _Row(
        "units that died after a large update or a bad batch",
        ("learning rate / 3, clip the gradient, warm up", "initialise the layer again", "LeakyReLU or ELU"),
        "CS231n",
    ),
    # Saturated tanh or sigmoid.
    17: _Row(
        "initial weights or inputs are too large",
        ("Xavier initialisation", "normalise the inputs", "LayerNorm or BatchNorm"),
        "Glorot 2010",
    ),
    # No gradient reaches a block.
    18: _Row(
        "detach, no_grad, argmax, an unused branch, or a factor of 0",
        ("remove the detach", "use the block in the loss", "or freeze it: requires_grad_(False)"),
        "TrainCheck; torch-audit TA500",
    ),
    # A gradient is there, the weights stay.
    19: _Row(
        "not in the optimizer, or in a group with learning rate 0",
        ("look at configure_optimizers", "set a learning rate, or requires_grad_(False)"),
        "TrainCheck",
    ),
    # Relative updates below 1e-6 everywhere.
    20: _Row(
        "the learning rate or the clipping is too small, or the loss is scaled down",
        ("learning rate x 10", "clip above the usual norm", "check the loss's scale"),
        "CS231n; SageMaker WeightUpdateRatio",
    ),
    # The profile over depth grows towards the input.
    21: _Row(
        "layer factors above 1, multiplied over the layers",
        ("initialise to preserve the variance", "residual connections, normalised after the addition", "fewer layers"),
        "Philipp 2017; Yang 2019",
    ),
    # A residual net without normalisation, huge output at step 0.
    22: _Row(
        "the variance doubles in each block",
        ("initialise the last layer of each block with 0", "scale blocks by 1/sqrt(depth)", "LayerNorm"),
        "Zhang 2019 (Fixup); arXiv 2312.16903",
    ),
    # A post-LN transformer stalls early at the full learning rate.
    23: _Row(
        "the warm-up is missing",
        ("warm up the learning rate", "pre-LN", "normalise queries and keys"),
        "Xiong 2020; Wortsman 2023, arXiv 2309.14322",
    ),
    # The weights shrink, and what they pass on with them.
    24: _Row(
        "the weight decay is too large",
        ("lower the weight decay", "no decay for biases and normalisation"),
        "Loshchilov 2019",
    ),
    # The loss falls without bound.
    25: _Row(
        "a sign error, or a loss without lower bound",
        ("check the sign of the loss", "check its reduction"),
        "TheDeepChecker",
    ),
    # Clipping is active on more than 90 % of the steps.
    26: _Row(
        "the clipping threshold is below the usual norm",
        ("a threshold from a percentile of the norms", "the median norm x 2", "leave the learning rate as it is"),
        "Seetharaman 2020 (AutoClip)",
    ),
    # The norms jump and stay there.
    27: _Row(
        "another batch size, accumulation, loss term or data set",
        ("nothing, if the change was meant", "scale the learning rate with the batch size"),
        "McCandlish 2018; Goyal 2017",
    ),
    # Ranks disagree on norms or weights.
    28: _Row(
        "DDP is bypassed, or the ranks are not synchronised",
        ("call the wrapped module", "check no_sync"),
        "TrainCheck",
    ),
}


def remedies(row: int) -> tuple[Remedy, ...]:
    """What to try for a row of the table in [1, 28], cheapest first, at most three."""
    entry = _TABLE[row]
    return tuple(Remedy(f"GW-{row:02d}", fix, entry.source) for fix in entry.fixes)


def likely(row: int) -> str:
    """The likely cause that a row of the table in [1, 28] names."""
    return _TABLE[row].cause
