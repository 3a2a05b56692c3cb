# SPDX-License-Identifier: Apache-2.0
"""Configurations that were written without a look at the rules, and run once before any rule was changed for them."""
