"""ml4h 0.1 (Broad Institute), ``ml4h.optimizers.find_learning_rate``.

Smoothing: EMA, 0.98, bias corrected. Stop: smoothed loss above 2 times the best. Of the recorded
steps from a tenth of the planned ones on, those left out whose step before lies above the first of
all: the one up to which the mean of four smoothed losses falls most against the four one step
earlier. It is the step after those four, so that the LR named was not trained at yet. It abstains
where no step is left.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._parts import NO_FINITE_LOSS, quiet, stop_step, until
from lrrt.core.smoothing import ema

WIDTH = 4


@quiet
def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    smoothed = ema(loss)
    stopped = stop_step(smoothed, 2)
    (recorded,) = until(stopped, smoothed)
    if not np.isfinite(recorded).any():
        return abstain(NO_FINITE_LOSS, stopped)
    # Before step 5 there are no two means; the source's slices are empty or wrap around there.
    steps = np.arange(max(len(lr) // 10, WIDTH + 1), len(recorded))
    steps = steps[~(recorded[steps - 1] > recorded[0])]
    falls = np.array(
        [recorded[i - WIDTH - 1 : i - 1].mean() - recorded[i - WIDTH : i].mean() for i in steps]
    )
    known = ~np.isnan(falls)
    if not known.any():
        return abstain("no step whose loss lies below the first", stopped)
    steepest = steps[known][falls[known].argmax()]
    return Suggestion(float(lr[steepest]), None, stop_step=stopped)
