# SPDX-License-Identifier: Apache-2.0
"""Parameters and gradients to numbers."""
