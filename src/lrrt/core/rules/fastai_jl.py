"""FastAI.jl 0.5, ``lrfind``: its estimators ``Steepest`` and ``MinDivByTen``.

Stop: raw loss above 4 times the best. Smoothing: EMA, 0.98, bias corrected. Both look at the last
two thirds of the recorded steps. ``max_lr``: a tenth of the LR at the lowest smoothed loss.
``min_lr``, meant to be the steepest descent over ln LR.

Bugs, kept: the change of the loss is divided by the logarithm of the difference of two rates, not
by the difference of their logarithms. That logarithm is negative below a difference of 1, so the
largest quotient is taken; it is near 0 where rates lie 1 apart, and positive above, so that the
answer is drawn to rates of about 5 on a ramp of 100 steps that ends at 10, and is a rise beyond. A
NaN counts as the steepest and as the lowest loss.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._parts import NO_FINITE_LOSS, quiet, stop_step, too_few, until
from lrrt.core.smoothing import ema


@quiet
def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    stopped = stop_step(loss, 4)
    lr, smoothed = until(stopped, lr, ema(loss))
    if len(lr) < 3:
        return abstain(too_few(len(lr), 3), stopped)
    slope = np.diff(smoothed) / np.log(np.diff(lr))
    start = len(lr) // 3 - 1  # the source counts from 1
    lr, smoothed, slope = lr[start:], smoothed[start:], slope[start:]
    if not np.isfinite(smoothed).any():
        return abstain(NO_FINITE_LOSS, stopped)
    return Suggestion(
        min_lr=float(lr[slope.argmax()]),
        max_lr=float(lr[smoothed.argmin()] / 10),
        stop_step=stopped,
    )
