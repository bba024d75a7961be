"""pytorch-lr-finder 0.2, ``LRFinder.plot(suggest_lr=True)``.

Smoothing: moving average with 0.05 of each new loss, started at the first. Stop: smoothed loss
above 5 times the best. The LR at the least gradient by step on the recorded steps [10:-5]. A bug,
kept: a NaN counts as the least gradient, and does not stop the test.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._parts import NO_FINITE_LOSS, quiet, stop_step, too_few, until
from lrrt.core.rules._seeded import seeded_average

SKIP_START, SKIP_END = 10, 5


@quiet
def suggest(
    lr: np.ndarray,
    loss: np.ndarray,
    *,
    skip_start: int = SKIP_START,
    skip_end: int = SKIP_END,
) -> Suggestion:
    smoothed = seeded_average(loss)
    stopped = stop_step(smoothed, 5)
    lr, smoothed = until(stopped, lr, smoothed)
    if len(lr) < skip_start + skip_end + 2:
        return abstain(too_few(len(lr), skip_start + skip_end + 2), stopped)
    part = slice(skip_start, len(lr) - skip_end)
    lr, smoothed = lr[part], smoothed[part]
    if not np.isfinite(smoothed).any():
        return abstain(NO_FINITE_LOSS, stopped)
    return Suggestion(float(lr[np.gradient(smoothed).argmin()]), None, stop_step=stopped)
