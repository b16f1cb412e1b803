"""The figures of the report that is reproduced, read off its figure 3 and its text."""

from __future__ import annotations

ACCURACY = {
    500: 0.565,
    1000: 0.60,
    1300: 0.62,
    2000: 0.65,
    3000: 0.71,
    4000: 0.76,
    5000: 0.80,
    6000: 0.82,
    7500: 0.835,
    14_000: 0.855,
}
"""Accuracy on the training batch by the number of batches."""

LOSS = {1300: 1.25, 3000: 0.94, 7500: 0.53, 14_000: 0.48}
"""Loss in nats per character by the number of batches."""

LOW, MIDDLE, HIGH = 0.65, 0.75, 0.84
"""The accuracies that its tables are at."""

CEILING = 0.85
"""What its accuracy did not get past."""

BATCHES, EPOCHS, BATCH = 10_000, 2.5, 128
"""After how many batches it was at its best, how many epochs it takes that for, and windows in a batch."""
