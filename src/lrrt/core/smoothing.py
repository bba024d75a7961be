"""Smoothing of a loss curve."""

import numpy as np


def ema(loss: np.ndarray, beta: float = 0.98) -> np.ndarray:
    """Exponential moving average with the start's bias corrected, float64 of shape (steps,).

    After k losses, m_k = beta m_{k-1} + (1 - beta) loss_k with m_0 = 0, and the result is
    m_k / (1 - beta**k) (Kingma and Ba 2015, section 3; fastai's and the post's). A NaN or an
    infinity stays until the end, without a warning.
    """
    loss = np.asarray(loss, dtype=np.float64)
    averages = np.empty_like(loss)
    average = 0.0
    # Python floats: no warnings, and for some hundred steps faster than arrays.
    for i, value in enumerate(loss.tolist()):
        average = beta * average + (1 - beta) * value
        averages[i] = average / (1 - beta ** (i + 1))
    return averages
