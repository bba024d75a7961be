"""The same LR at every step."""

import numpy as np


def lrs(lr: float, total_steps: int) -> np.ndarray:
    """``lr``, repeated: float64 of shape (total_steps,)."""
    return np.full(total_steps, lr, dtype=np.float64)
