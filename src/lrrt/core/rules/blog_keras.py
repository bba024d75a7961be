"""The post's finder for Keras (Keras 2.3.1; Maggio's ``LRFinder`` callback).

Smoothing: EMA, 0.98, bias corrected. Stop: smoothed loss above (10 - 20 * 0.98 / 3) = 3.467 times
the best. Range, on the recorded steps [5:-1]:

- maximum: the grid's value nearest to a tenth of the LR at the lowest smoothed loss;
- minimum: the steepest descent (least gradient by step) within the last unbroken descent before
  that lowest loss. If there is none, or it is no less than, or more than a tenth of, the maximum:
  the grid's value nearest to a tenth of the maximum, which ``fallback`` flags and the finder does
  not show.

Its bugs, kept: a descent that is unbroken since the first of these steps counts as none, as does
one that a rise just before the lowest loss ends; a NaN counts as the lowest loss and does not stop
the test. Not kept: it answers even where the loss never falls, where no loss is finite, and up to
six recorded steps, which it reads untrimmed; this rule abstains.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._parts import (
    NEVER_FALLS,
    NO_FINITE_LOSS,
    never_falls,
    quiet,
    stop_step,
    too_few,
    until,
)
from lrrt.core.smoothing import ema

BETA = 0.98
STOP_FACTOR = 10 - 20 * BETA / 3
SKIP_START, SKIP_END = 5, 1
MIN_TO_MAX = 1 / 10


@quiet
def suggest(
    lr: np.ndarray,
    loss: np.ndarray,
    *,
    beta: float = BETA,
    stop_factor: float = STOP_FACTOR,
    skip_start: int = SKIP_START,
    skip_end: int = SKIP_END,
) -> Suggestion:
    smoothed = ema(loss, beta)
    stopped = stop_step(smoothed, stop_factor)
    lr, smoothed = until(stopped, lr, smoothed)
    if len(lr) <= skip_start + skip_end:
        return abstain(too_few(len(lr), skip_start + skip_end + 1), stopped)
    part = slice(skip_start, len(lr) - skip_end)
    lr, smoothed = lr[part], smoothed[part]
    if not np.isfinite(smoothed).any():
        return abstain(NO_FINITE_LOSS, stopped)
    if never_falls(smoothed):
        return abstain(NEVER_FALLS, stopped)
    lowest = int(smoothed.argmin())
    max_lr = float(_nearest(lr, lr[lowest] / 10))
    steepest = _steepest_of_last_descent(smoothed, lowest)
    min_lr = None if steepest is None else float(lr[steepest])
    fallback = min_lr is None or not (min_lr < max_lr and min_lr / max_lr <= MIN_TO_MAX)
    if fallback:
        min_lr = float(_nearest(lr, MIN_TO_MAX * max_lr))
    return Suggestion(min_lr, max_lr, fallback, stop_step=stopped)


def _nearest(lr: np.ndarray, value: float) -> float:
    return lr[np.abs(lr - value).argmin()]


def _steepest_of_last_descent(smoothed: np.ndarray, lowest: int) -> int | None:
    """Index of the least gradient between the last one that is not negative and ``lowest``."""
    if len(smoothed) < 2:
        return None
    gradient = np.gradient(smoothed)
    rises = np.flatnonzero(gradient[:lowest] >= 0)
    if not len(rises) or rises[-1] == lowest - 1:
        return None
    start = rises[-1] + 1
    return int(start + gradient[start:lowest].argmin())
