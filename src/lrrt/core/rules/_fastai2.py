"""What fastai 2 (2.8) does before any of its four suggestion functions: smooth, stop, trim.

Smoothing: EMA, 0.98, bias corrected. Stop: smoothed loss above 4 times the best; a NaN does not
stop it. Kept: the recorded steps [n // 10 : -5], n being the steps the test was to have, up to the
first NaN, in float32.
"""

from collections.abc import Callable

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._parts import NO_FINITE_LOSS, quiet, stop_step, until
from lrrt.core.smoothing import ema

SKIP_END = 5


@quiet
def suggest_with(
    rate: Callable[[np.ndarray, np.ndarray], float],
    lr: np.ndarray,
    loss: np.ndarray,
    *,
    needed: int,
    is_maximum: bool,
) -> Suggestion:
    """Apply ``rate(lr, smoothed) -> LR`` to what is kept, if that is at least ``needed`` steps.

    ``is_maximum``: whether the rate goes into ``max_lr``, else into ``min_lr``.
    """
    smoothed = ema(loss)
    stopped = stop_step(smoothed, 4)
    skip_start = len(lr) // 10
    lr, smoothed = until(stopped, lr, smoothed)
    lr, smoothed = lr[skip_start:-SKIP_END], smoothed[skip_start:-SKIP_END].astype(np.float32)
    if np.isnan(smoothed).any():
        kept = np.isnan(smoothed).argmax()
        lr, smoothed = lr[:kept], smoothed[:kept]
    if len(lr) < needed:
        return abstain(f"too few steps left after trimming: {len(lr)}, it needs {needed}", stopped)
    if not np.isfinite(smoothed).any():
        return abstain(NO_FINITE_LOSS, stopped)
    found = float(rate(lr, smoothed))
    if is_maximum:
        return Suggestion(None, found, stop_step=stopped)
    return Suggestion(found, None, stop_step=stopped)
