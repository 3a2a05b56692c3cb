# SPDX-License-Identifier: Apache-2.0
"""Limits and scales of the learning rate."""
