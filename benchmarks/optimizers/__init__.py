# SPDX-License-Identifier: Apache-2.0
"""What our callbacks do beside each optimizer: ``make optimizers``.

Each trains a small classifier on scikit-learn's digits, at a usual rate, without callbacks, watched, and with our five;
then at 100 times its rate. The table says whether watching changes a bit, what the five do to the final loss, whether a
healthy run gets an event, whether the high rate is found and how much of the damage is undone, whether a resumed run
ends as an uninterrupted one, whether a skipped step is a no-op, and whether `Rewind` runs or refuses before the first
step.
"""
