# SPDX-License-Identifier: Apache-2.0
"""The TensorBoard plugin: what a run writes (`records`), how it is read back, and the page that shows it."""
