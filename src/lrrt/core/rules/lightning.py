"""Lightning 2.5.3 and later, ``lr_find(...).suggestion()``.

Smoothing and stop: see :mod:`lrrt.core.rules._lightning`, bug included. The LR at the least
gradient of the smoothed loss over the LR itself, among the finite ones of the recorded steps
[10:-1]. Being per unit of LR, not of its logarithm, the gradient favours small rates.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._lightning import SKIP_END, SKIP_START, steepest_over_lr, trimmed_curve
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
    found = steepest_over_lr(lr, smoothed)
    if found is None:
        finite = np.isfinite(smoothed).sum()
        return abstain(f"too few finite steps after trimming: {finite}, it needs 2", stopped)
    return Suggestion(found, None, stop_step=stopped)
