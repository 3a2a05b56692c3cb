# SPDX-License-Identifier: Apache-2.0
"""The private or optional parts of Lightning, DeepSpeed and torch.distributed, one function each."""
