"""Lightning 2.5.3 and later, ``lr_find(...).suggestion()``.

Smoothing and stop: see ``_lightning``, bug included. The LR at the least gradient of the smoothed
loss over the LR itself, among the finite ones of the recorded steps [10:-1]. Being per unit of LR,
not of its logarithm, the gradient favours small rates.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._lightning import kept
from lrrt.core.rules._parts import quiet


@quiet
def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    lr, smoothed, stopped = kept(lr, loss)
    finite = np.isfinite(smoothed)
    if finite.sum() < 2:
        return abstain(f"too few finite steps after trimming: {finite.sum()}, it needs 2", stopped)
    lr, smoothed = lr[finite], smoothed[finite]
    steepest = np.gradient(smoothed, lr.astype(np.float32)).argmin()
    return Suggestion(float(lr[steepest]), None, stop_step=stopped)
