# SPDX-License-Identifier: Apache-2.0
"""One optimizer step, shared by all callbacks."""
