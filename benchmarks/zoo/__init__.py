# SPDX-License-Identifier: Apache-2.0
"""Composes training runs on which detectors are measured: ``python -m benchmarks.zoo``.

A run is a family (a network and its task) under an optimizer with its schedule, and one change: nothing, a fault that
patches the sound run, or a variation that is healthy and could deceive. Its name is ``family/optimizer/change``.

The outcome proves the label: on clean batches a sick run ends clearly worse than its sound twin, a healthy one learns.
Some families and some faults are for tuning, the others for reporting (`split`).
"""
