"""PyTorch-Ignite 0.5, ``FastaiLRFinder.lr_suggestion``.

Smoothing: moving average with 0.05 of each new loss, started at the first. Stop: smoothed loss
above 5 times the best. The LR at the least central difference, in float32, of the recorded steps up
to the lowest, ends left out; nothing is trimmed. A bug, kept: a NaN counts as the lowest loss, and
does not stop the test.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._parts import NO_FINITE_LOSS, quiet, stop_step, until
from lrrt.core.rules._seeded import seeded_average


@quiet
def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    smoothed = seeded_average(loss)
    stopped = stop_step(smoothed, 5)
    lr, smoothed = until(stopped, lr, smoothed.astype(np.float32))
    if not np.isfinite(smoothed).any():
        return abstain(NO_FINITE_LOSS, stopped)
    descent = smoothed[: smoothed.argmin() + 1]
    if len(descent) < 3:
        return abstain("the lowest loss is at the first or second step", stopped)
    steepest = (descent[2:] - descent[:-2]).argmin() + 1
    return Suggestion(float(lr[steepest]), None, stop_step=stopped)
