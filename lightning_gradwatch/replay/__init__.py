# SPDX-License-Identifier: Apache-2.0
"""What a step can be repeated from."""
