"""fastai 1 (1.0.61), ``Recorder.plot(suggestion=True)``.

Smoothing: EMA, 0.98, bias corrected. Stop: smoothed loss above 4 times the best, or NaN. On the
recorded steps [10:-5], both of which it prints: the LR at the least gradient by step (here
``min_lr``) and a tenth of the LR at the lowest loss (``max_lr``).
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._parts import NO_FINITE_LOSS, quiet, stop_step, too_few, until
from lrrt.core.smoothing import ema

SKIP_START, SKIP_END = 10, 5


@quiet
def suggest(
    lr: np.ndarray,
    loss: np.ndarray,
    *,
    skip_start: int = SKIP_START,
    skip_end: int = SKIP_END,
) -> Suggestion:
    smoothed = ema(loss)
    stopped = stop_step(smoothed, 4, at_nan=True)
    lr, smoothed = until(stopped, lr, smoothed)
    found = len(lr)
    if found < skip_start + skip_end + 2:
        return abstain(too_few(found, skip_start + skip_end + 2), stopped)
    part = slice(skip_start, len(lr) - skip_end)
    lr, smoothed = lr[part], smoothed[part]
    if not np.isfinite(smoothed).any():
        return abstain(NO_FINITE_LOSS, stopped)
    return Suggestion(
        min_lr=float(lr[np.gradient(smoothed).argmin()]),
        max_lr=float(lr[smoothed.argmin()] / 10),
        stop_step=stopped,
    )
