# SPDX-License-Identifier: Apache-2.0
"""The callbacks that a user adds to a Trainer, and their two bases."""
