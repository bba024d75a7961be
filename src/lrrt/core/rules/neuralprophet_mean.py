"""NeuralProphet's development version (commit 5e6b231), in no release yet: a mean of two.

Smoothing: Lightning's (:mod:`lrrt.core.rules._lightning`, bug included). Nothing stops the test.
The geometric mean of two rates: that at the least gradient by step under a Hamming window of 10
steps, untrimmed, and Lightning's own, the least gradient over the LR itself among the finite ones
of the steps [10:-3]; the first alone where those are fewer than two. A bug, kept: a NaN counts as
the steepest descent of the first.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._lightning import smoothed_losses, steepest_over_lr
from lrrt.core.rules._neuralprophet import finite_end, steepest
from lrrt.core.rules._parts import NO_FINITE_LOSS, quiet, too_few

HALF_WINDOW = 5
SKIP_START, SKIP_END = 10, 3


@quiet
def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    lr, loss = finite_end(lr, loss)
    if len(lr) < 2:
        return abstain(too_few(len(lr), 2))
    smoothed = smoothed_losses(loss)
    if not np.isfinite(smoothed).any():
        return abstain(NO_FINITE_LOSS)
    found = lr[steepest(smoothed, HALF_WINDOW)]
    part = slice(SKIP_START, -SKIP_END)
    own = steepest_over_lr(lr[part], smoothed[part].astype(np.float32))
    if own is not None:
        found = np.exp((np.log(found) + np.log(own)) / 2)
    return Suggestion(float(found), None)
