"""Cosine decay with warm restarts, SGDR (Loshchilov and Hutter 2016, arXiv 1608.03983, eq. 5)."""

import numpy as np

CYCLES = 3
GROWTH = 2  # T_mult: each cycle is twice as long as the one before


def lrs(lr: float, total_steps: int) -> np.ndarray:
    """From ``lr`` down towards 0 along half a cosine, three times, over 1/7, 2/7 and 4/7 of the
    steps: float64 of shape (total_steps,). Each cycle begins at ``lr`` exactly."""
    ends = (GROWTH ** np.arange(1, CYCLES + 1) - 1) / (GROWTH - 1)  # 1, 3, 7
    bounds = np.concatenate([[0], np.rint(total_steps * ends / ends[-1])]).astype(int)
    cycles = [np.arange(length) / length for length in np.diff(bounds) if length > 0]
    return lr * (1 + np.cos(np.pi * np.concatenate(cycles))) / 2
