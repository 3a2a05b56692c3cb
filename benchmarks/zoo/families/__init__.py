# SPDX-License-Identifier: Apache-2.0
"""Small versions of real architectures, each with a task that it learns within 150 steps."""
