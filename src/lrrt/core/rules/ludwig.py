"""Ludwig 0.4 and 0.5, ``learning_rate: auto`` (``Trainer.tune_learning_rate``), removed in 0.6.

Smoothing: EMA, 0.98, bias corrected. Stop: smoothed loss above 3 times the best of the steps
before; a NaN does not stop it. The LR at the least gradient by step of the finite smoothed losses
of the recorded steps [10:-1]. A bug, kept: losses that are not finite are left out before the least
gradient is counted off, but not from the rates it is counted along.

Its ramp, from 1e-8 to 1 in N = 100 steps, is no part of the rule. It is meant to be exponential,
but step i (from 0) multiplies the *current* rate by (1 / rate)**((i + 1) / N): the exponent grows
while the distance shrinks, so that the rate is 3e-5 after 10 steps, passes 0.1 before step 20 and
spends the last 60 steps above 0.99.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._parts import quiet, stop_step, until
from lrrt.core.smoothing import ema

SKIP_START, SKIP_END = 10, 1


@quiet
def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    smoothed = ema(loss)
    stopped = stop_step(smoothed, 3, before_update=True)
    lr, smoothed = until(stopped, lr, smoothed)
    lr, smoothed = lr[SKIP_START:-SKIP_END], smoothed[SKIP_START:-SKIP_END]
    smoothed = smoothed[np.isfinite(smoothed)]
    if len(smoothed) < 2:
        return abstain(f"too few finite steps after trimming: {len(smoothed)}, it needs 2", stopped)
    return Suggestion(float(lr[np.gradient(smoothed).argmin()]), None, stop_step=stopped)
