"""How ktrain's finder smooths and stops."""

import numpy as np

from lrrt.core.rules._parts import stop_step, until
from lrrt.core.smoothing import ema


def trimmed_curve(lr: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray, int | None]:
    """LR and smoothed loss of all recorded steps, and the stop: 4 times the best before.

    A NaN does not stop it. Its own ramp ends at an LR of 10; that is left out.
    """
    smoothed = ema(loss)
    stopped = stop_step(smoothed, 4, before_update=True)
    return (*until(stopped, lr, smoothed), stopped)
