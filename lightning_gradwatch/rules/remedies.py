# SPDX-License-Identifier: Apache-2.0
"""From symptom to likely cause and advice: one table, with stable ids."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_gradwatch.events import Remedy


@dataclass(frozen=True, slots=True)
class Row:
    """What a symptom means, and what to try.

    Attributes:
        symptom: What is seen.
        cause: What is likely.
        fixes: Cheapest first, at most three.
        source: Where the advice comes from.
    """

    symptom: str
    cause: str
    fixes: tuple[str, ...]
    source: str


# The key is the number in the id: 8 is GW-08. Ids are never reused. No event calls for 12, since a scaler that finds
# its place is no finding, nor for 28: to compare the ranks' weights would cost a collective at every step.
TABLE = {
    1: Row(
        "The profile over depth falls by more than 1e3 towards the input; sigmoid or tanh",
        "small derivatives, multiplied over the layers",
        (
            "ReLU or GELU",
            "Xavier initialisation",
            "residual connections and normalisation",
        ),
        "Bengio 1994; Glorot 2010; He 2015, 2016; Ioffe 2015",
    ),
    2: Row(
        "The profile over depth falls by more than 1e3 towards the input; no saturating units",
        "the initialisation is too small: the signal collapses",
        ("remove the custom standard deviation", "He (ReLU) or Xavier (tanh) initialisation"),
        "He 2015; TheDeepChecker",
    ),
    3: Row(
        "The profile over time falls below 1e-6, no progress",
        "the recurrent Jacobian is below 1",
        ("orthogonal recurrent weights, forget bias 1", "LSTM or GRU", "shorter truncation, or attention over time"),
        "Hochreiter 1997; Cho 2014; Pascanu 2013",
    ),
    4: Row(
        "The profile over time far above 1, or spikes in a recurrent net",
        "the spectral radius of the recurrent weights is above 1",
        ("clip the norm, from the running median", "lower the learning rate", "orthogonal recurrent weights"),
        "Pascanu 2013",
    ),
    5: Row(
        "Relative updates above 0.5 in many layers",
        "the learning rate is too high",
        ("learning rate / 10", "warm up over 100 steps or more", "aim at updates of 1e-3"),
        "CS231n; Goyal 2017",
    ),
    6: Row(
        "Relative updates above 10 in the first steps",
        "inputs or targets are not normalised",
        ("standardise inputs and targets", "check their units"),
        "LeCun 1998; DeepDiagnosis",
    ),
    7: Row(
        "The norm grows steadily, the loss rises",
        "the learning rate is just past stability, or a decay has the wrong sign",
        ("learning rate / 3", "clip the gradient", "check the sign of the weight decay"),
        "Cohen 2021",
    ),
    8: Row(
        "One isolated spike",
        "an outlier batch",
        ("look at this batch", "clip the gradient", "leave the learning rate as it is"),
        "PaLM; ZClip",
    ),
    9: Row(
        "Repeated spikes after a calm",
        "the optimizer's second moment is stale",
        ("beta2 of 0.95 to 0.99", "clip the update (StableAdamW)", "lower the learning rate"),
        "Wortsman 2023, arXiv 2304.13013",
    ),
    10: Row(
        "A non-finite loss in the first steps, or made in the backward pass; the weights are finite",
        "log(0), sqrt(0), a division by 0, or 0/0 inside where()",
        ("clamp, or add an epsilon inside", "use the loss that takes logits"),
        "PyTorch documentation",
    ),
    11: Row(
        "Non-finite values appear first in the inputs, or in every layer of a run that went well",
        "the input: a batch with NaN or inf",
        ("drop or repair the batch", "check the loader"),
        "UMLAUT; Lightning #4956",
    ),
    12: Row(
        "The GradScaler skips fewer than 12 steps in a row",
        "the GradScaler is calibrating",
        (),
        "torch.amp; Lightning #9799",
    ),
    13: Row(
        "The GradScaler skips on and on, or its scale is below 1",
        "a true overflow in half precision",
        ("train in bf16", "lower the learning rate", "keep normalisation and softmax in fp32"),
        "Micikevicius 2018; Hugging Face documentation",
    ),
    14: Row(
        "More and more exact zeros in fp16 without a scaler",
        "underflow in half precision",
        ("switch the GradScaler on", "train in bf16"),
        "Micikevicius 2018",
    ),
    15: Row(
        "Exactly no gradient from the start",
        "units that never fire, or a factor of 0",
        ("a bias of 0 or slightly above", "He initialisation", "LeakyReLU or GELU"),
        "Lu 2019; Maas 2013",
    ),
    16: Row(
        "Exactly no gradient from some step on",
        "units that died after a large update or a bad batch",
        ("learning rate / 3, clip the gradient, warm up", "initialise the layer again", "LeakyReLU or ELU"),
        "CS231n",
    ),
    17: Row(
        "Saturated tanh or sigmoid",
        "initial weights or inputs are too large",
        ("Xavier initialisation", "normalise the inputs", "LayerNorm or BatchNorm"),
        "Glorot 2010",
    ),
    18: Row(
        "No gradient reaches a block",
        "detach, no_grad, argmax, an unused branch, or a factor of 0",
        ("remove the detach", "use the block in the loss", "or freeze it: requires_grad_(False)"),
        "TrainCheck; torch-audit TA500",
    ),
    19: Row(
        "A gradient is there, the weights stay",
        "not in the optimizer, or in a group with learning rate 0",
        ("look at configure_optimizers", "set a learning rate, or requires_grad_(False)"),
        "TrainCheck",
    ),
    20: Row(
        "Relative updates below 1e-6 everywhere",
        "the learning rate or the clipping is too small, or the loss is scaled down",
        ("learning rate x 10", "clip above the usual norm", "check the loss's scale"),
        "CS231n; SageMaker WeightUpdateRatio",
    ),
    21: Row(
        "The profile over depth grows towards the input",
        "layer factors above 1, multiplied over the layers",
        ("initialise to preserve the variance", "residual connections, normalised after the addition", "fewer layers"),
        "Philipp 2017; Yang 2019",
    ),
    22: Row(
        "A residual net without normalisation, huge output at step 0",
        "the variance doubles in each block",
        ("initialise the last layer of each block with 0", "scale blocks by 1/sqrt(depth)", "LayerNorm"),
        "Zhang 2019 (Fixup); arXiv 2312.16903",
    ),
    23: Row(
        "A post-LN transformer stalls early at the full learning rate",
        "the warm-up is missing",
        ("warm up the learning rate", "pre-LN", "normalise queries and keys"),
        "Xiong 2020; Wortsman 2023, arXiv 2309.14322",
    ),
    24: Row(
        "The weights shrink, and what they pass on with them",
        "the weight decay is too large",
        ("lower the weight decay", "no decay for biases and normalisation"),
        "Loshchilov 2019",
    ),
    25: Row(
        "The loss falls without bound",
        "a sign error, or a loss without lower bound",
        ("check the sign of the loss", "check its reduction"),
        "TheDeepChecker",
    ),
    26: Row(
        "Clipping is active on more than 90 % of the steps",
        "the clipping threshold is below the usual norm",
        ("a threshold from a percentile of the norms", "the median norm x 2", "leave the learning rate as it is"),
        "Seetharaman 2020 (AutoClip)",
    ),
    27: Row(
        "The norms jump and stay there",
        "another batch size, accumulation, loss term or data set",
        ("nothing, if the change was meant", "scale the learning rate with the batch size"),
        "McCandlish 2018; Goyal 2017",
    ),
    28: Row(
        "Ranks disagree on norms or weights",
        "DDP is bypassed, or the ranks are not synchronised",
        ("call the wrapped module", "check no_sync"),
        "TrainCheck",
    ),
    29: Row(
        "The learning rate is nearly 0 for a fifth of the run, or rises so slowly that nothing moves",
        "the learning rate's schedule counts in the wrong unit",
        (
            'set its "interval" to "step" or "epoch", as its numbers mean',
            "compare its length with trainer.estimated_stepping_batches",
            "give it a floor above 0",
        ),
        "Lightning documentation: configure_optimizers",
    ),
    30: Row(
        "The weights that a step left are not those that the next one finds",
        "something puts the weights back, or moves them, between steps",
        (
            "look at what else writes to parameters: averages, hooks, loaded states",
            "keep averaged weights in a copy of the module",
        ),
        "TrainCheck",
    ),
    31: Row(
        "The loss climbs above its start while the gradient grows",
        "gradients that add up since nobody clears them, a loss of the wrong sign, or a learning rate past stability",
        (
            "check that gradients are cleared at each step: optimizer.zero_grad()",
            "check the sign of the loss, and of each of its terms",
            "learning rate / 10",
        ),
        "PyTorch documentation; Cohen 2021",
    ),
    32: Row(
        "After the first steps the loss is still worse than that of a blind guess",
        "inputs, targets or initial outputs are not of order 1",
        ("standardise inputs and targets", "check their units", "make the initial outputs small"),
        "LeCun 1998; He 2015; TheDeepChecker",
    ),
    33: Row(
        "The loss that is differentiated is a small part of what the loss function gave",
        "the loss is divided once too often",
        (
            "take out the division: the loss function's mean has divided already",
            "check its reduction and accumulate_grad_batches",
        ),
        "PyTorch documentation; TheDeepChecker",
    ),
    34: Row(
        "All gradients are exactly 0 while the loss is not",
        "gradients are cleared between the backward pass and the step, or the loss is flat: a margin, a clamp",
        (
            "call optimizer.zero_grad() before the backward pass, not after it",
            "look for clamp, relu, sign or argmax in the loss",
        ),
        "PyTorch documentation",
    ),
    35: Row(
        "A loss that takes logits gets probabilities",
        "a softmax too many: cross_entropy takes logits",
        ("take out the softmax in front of the loss", "or use nll_loss on log_softmax"),
        "PyTorch documentation; UMLAUT",
    ),
    36: Row(
        "Each answer is held against each target",
        "answers and targets have shapes that broadcast",
        ("target.view_as(answer)", "or answer.squeeze(-1)"),
        "PyTorch documentation",
    ),
    37: Row(
        "The answers are the same for all inputs of a batch",
        "a mean, a softmax or a normalisation over the batch instead of the features, or a network that has collapsed",
        (
            "check the dim of each mean, softmax and normalisation",
            "check that the input reaches the output: print net(x).std(0)",
            "learning rate / 10, if the outputs differed at the start",
        ),
        "TheDeepChecker; PyTorch documentation",
    ),
}


def remedies(row: int) -> tuple[Remedy, ...]:
    """What to try for a row of the table, cheapest first, at most three."""
    entry = TABLE[row]
    return tuple(Remedy(f"GW-{row:02d}", fix, entry.source) for fix in entry.fixes)


def likely(row: int) -> str:
    """The likely cause that a row of the table names."""
    return TABLE[row].cause
