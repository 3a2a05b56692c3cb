# SPDX-License-Identifier: Apache-2.0
"""Short runs with faults drawn at random from a seed, and what must hold for each of them.

`plan` draws, `faults` breaks things, `train` runs one process, `check` says what is wrong, `run` puts them together.
"""
