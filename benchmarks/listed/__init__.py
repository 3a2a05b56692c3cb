# SPDX-License-Identifier: Apache-2.0
"""Hand-written sick and healthy training runs, the list before `benchmarks.zoo`: ``python -m benchmarks.listed``.

Each run is a real Lightning run of 150 to 300 optimizer steps. Each label is checked by the outcome of the run without
any detector. The runs are split by configuration: rules are tuned on one half and reported on the other.
"""
