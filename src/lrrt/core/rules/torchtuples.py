"""torchtuples 0.2 (pycox), ``model.lr_finder(...).get_best_lr()``.

Smoothing: EMA, 0.98, bias corrected. Nothing stops the test (its tolerance is infinite) and nothing
is trimmed. A tenth of the LR at the lowest smoothed loss, moved into [1e-4, 1] without a word,
whatever the ramp. A bug, kept: a NaN counts as the lowest loss.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._parts import NO_FINITE_LOSS, quiet
from lrrt.core.smoothing import ema

LOWEST_LR, HIGHEST_LR = 1e-4, 1.0


@quiet
def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    smoothed = ema(loss)
    if not np.isfinite(smoothed).any():
        return abstain(NO_FINITE_LOSS)
    found = lr[smoothed.argmin()] / 10
    return Suggestion(None, float(np.clip(found, LOWEST_LR, HIGHEST_LR)))
