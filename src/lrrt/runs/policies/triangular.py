"""Cyclical LR, triangular: up and down in straight lines (Smith 2015, arXiv 1506.01186)."""

import numpy as np

BASE_SHARE = 1 / 4  # of the largest LR: section 3.3 takes 1/3 or 1/4
CYCLES = 3  # section 3.2: three cycles train the network most of the way


def lrs(lr: float, total_steps: int) -> np.ndarray:
    """Three equal cycles from ``lr / 4`` up to ``lr`` and back: float64 of shape (total_steps,).

    Step s is at phase ``3 s / total_steps``, so that the largest LR of a training whose steps are
    no multiple of six is a little below ``lr``.
    """
    phase = CYCLES * np.arange(total_steps) / total_steps % 1
    height = 1 - np.abs(2 * phase - 1)
    return lr * (BASE_SHARE + (1 - BASE_SHARE) * height)
