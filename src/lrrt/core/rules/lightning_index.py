"""Lightning up to 2.5.2, ``lr_find(...).suggestion()``.

Smoothing and stop: see :mod:`lrrt.core.rules._lightning`, bug included. The LR at the least
gradient by step of the finite smoothed losses of the recorded steps [10:-1]. Another bug, kept:
losses that are not finite are left out before the least gradient is counted off, but not from the
rates it is counted along.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._lightning import SKIP_END, SKIP_START, trimmed_curve
from lrrt.core.rules._parts import quiet


@quiet
def suggest(
    lr: np.ndarray,
    loss: np.ndarray,
    *,
    skip_start: int = SKIP_START,
    skip_end: int = SKIP_END,
) -> Suggestion:
    lr, smoothed, stopped = trimmed_curve(lr, loss, skip_start, skip_end)
    smoothed = smoothed[np.isfinite(smoothed)]
    if len(smoothed) < 2:
        return abstain(f"too few finite steps after trimming: {len(smoothed)}, it needs 2", stopped)
    return Suggestion(float(lr[np.gradient(smoothed).argmin()]), None, stop_step=stopped)
