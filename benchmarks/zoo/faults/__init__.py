# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in training runs, each as a patch of a sound run. A fault stands for its kind."""
