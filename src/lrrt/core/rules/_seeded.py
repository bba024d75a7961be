"""The smoothing that pytorch-lr-finder and ignite share."""

import numpy as np


def seeded_average(loss: np.ndarray, share: float = 0.05) -> np.ndarray:
    """Exponential moving average that starts at the first loss, each new one having ``share``."""
    averages = np.array(loss, dtype=np.float64)
    for i in range(1, len(averages)):
        averages[i] = share * averages[i] + (1 - share) * averages[i - 1]
    return averages
