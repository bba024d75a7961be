"""Ultralytics, ``lr0=auto``: merged in development (pull request 25814), in no release yet.

Not in its newest release, 8.4.190 of November 2026. Stop: raw loss above 4 times the best, or not
finite. On the recorded steps: y, the centred mean of five raw losses, over x = log10 LR; the *edge*
is its lowest; from there back, the descent -dy/dx, whose peak must lie between the two ends; a
parabola through the descent within max(edge // 8, 3) steps of the peak, whose vertex (the peak
itself where it opens upwards) is moved into the range of x. The answer is the geometric mean of
vertex and edge, at most 0.01 whatever the optimiser, rounded to three digits.

It abstains with fewer than 50 planned steps, fewer than 15 recorded, an edge among the first five
means or the last, and without a peak between. (It also does in epochs of fewer than ten batches,
which a curve does not show.) A NaN counts as the lowest loss, so that it abstains there, too.
"""

import warnings

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._parts import quiet, stop_step, too_few, until

FEWEST_PLANNED, FEWEST_RECORDED = 50, 15
WINDOW = 5
HIGHEST_LR = 0.01


@quiet
def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    if len(lr) < FEWEST_PLANNED:
        return abstain(too_few(len(lr), FEWEST_PLANNED))
    stopped = stop_step(np.where(np.isfinite(loss), loss, np.nan), 4, at_nan=True)
    (recorded,) = until(stopped, loss)
    if len(recorded) < FEWEST_RECORDED:
        return abstain(too_few(len(recorded), FEWEST_RECORDED), stopped)
    y = np.convolve(recorded, np.full(WINDOW, 1 / WINDOW), "valid")
    x = np.log10(lr[WINDOW // 2 :][: len(y)])
    edge = int(y.argmin())
    if not 5 <= edge < len(y) - 1:
        return abstain("the lowest loss is at the beginning or the end", stopped)
    x, descent = x[: edge + 1], -np.gradient(y[: edge + 1], x[: edge + 1])
    peak = int(descent.argmax())
    if not 0 < peak < edge:
        return abstain("the descent is steepest at its beginning or end", stopped)
    near = slice(max(peak - max(edge // 8, 3), 0), peak + max(edge // 8, 3) + 1)
    vertex = np.clip(_vertex(x[near], descent[near], x[peak]), x[0], x[edge])
    found = min(10 ** ((vertex + x[edge]) / 2), HIGHEST_LR)
    return Suggestion(None, float(f"{found:.3g}"), stop_step=stopped)


def _vertex(x: np.ndarray, y: np.ndarray, otherwise: float) -> float:
    """Where the parabola through the points has its maximum, else ``otherwise``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a poor fit
            a, b, _ = np.polyfit(x, y, 2)
    except np.linalg.LinAlgError:  # descents that are not finite
        return otherwise
    return -b / (2 * a) if a < 0 else otherwise
