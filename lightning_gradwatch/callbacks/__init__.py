# SPDX-License-Identifier: Apache-2.0
"""The Lightning callbacks. Their hooks are in `base`, the order of one step in `session`."""
