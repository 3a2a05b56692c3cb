# SPDX-License-Identifier: Apache-2.0
"""Sick and healthy training runs on which detectors are measured: ``python -m benchmarks.zoo``.

Each run is a real Lightning run of 150 to 300 optimizer steps. Each label is checked by the outcome of the run without
any detector. The runs are split by configuration: rules are tuned on one half and reported on the other.
"""
