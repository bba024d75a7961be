"""One cycle: up to the largest LR, then down to nearly nothing (Smith and Topin 2018)."""

import numpy as np

# The defaults of PyTorch's OneCycleLR, fastai's form: both legs are half a cosine. The momentum is
# not cycled here.
RISING_SHARE = 0.3
START_DIVISOR = 25.0
END_DIVISOR = START_DIVISOR * 1e4


def lrs(lr: float, total_steps: int) -> np.ndarray:
    """From ``lr / 25`` up to ``lr`` over three tenths of the steps, then down to ``lr / 250,000``.

    float64 of shape (total_steps,); ``lr`` is reached at step ``0.3 total_steps - 1``, where that
    is a whole number.
    """
    peak = RISING_SHARE * total_steps - 1
    last = total_steps - 1
    step = np.arange(total_steps, dtype=np.float64)
    rising = np.clip(step / peak, 0, 1) if peak > 0 else np.ones(total_steps)
    falling = np.clip((step - peak) / (last - peak), 0, 1)
    up = _half_cosine(lr / START_DIVISOR, lr, rising)
    return np.where(step <= peak, up, _half_cosine(lr, lr / END_DIVISOR, falling))


def _half_cosine(start: float, end: float, share: np.ndarray) -> np.ndarray:
    return end + (start - end) * (1 + np.cos(np.pi * share)) / 2
