# SPDX-License-Identifier: Apache-2.0
"""Copies of a run, and where to go back to."""
