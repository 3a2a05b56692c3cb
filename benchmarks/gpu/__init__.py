# SPDX-License-Identifier: Apache-2.0
"""What can be seen on a CUDA device only; all of it within nine minutes: ``python -m benchmarks.gpu``."""
