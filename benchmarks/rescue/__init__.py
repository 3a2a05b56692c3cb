# SPDX-License-Identifier: Apache-2.0
"""Runs that die or stall under a fixed configuration, and who rescues them.

A pair is one model twice: with one fault, and sound. Both start from the same weights. After training, both are
judged on 20 clean batches of the same kind, in evaluation mode: by accuracy if the targets are classes, else by loss.

* Rescued: the faulty run ends within 10 % of the sound one of the same seed: its accuracy is at least 0.9 times, its
  loss at most 1.1 times that of the sound run.
* Rescuable: at least one method of the table rescues it, or one point of the oracle's grid, which knows the fault: each
  cap of `oracle.CAPS` on the learning rate, with and without a norm limit of 1, where steps with NaN and inf and
  the batches known to be poisoned are passed over. What a callback could have done in hindsight, and no more: weights
  that start badly, or data in odd units, stay as they are.
"""
