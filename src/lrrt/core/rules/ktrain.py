"""ktrain 0.41, the first two of the three rates of ``learner.lr_estimate``.

Smoothing: EMA, 0.98, bias corrected. Stop: smoothed loss above 4 times the best. ``min_lr``: the LR
at the least gradient by step from step 32 up to the lowest loss; None where those are fewer than
two. ``max_lr``: a tenth of the LR at the lowest loss.

Its bugs, kept: the least gradient is counted from step 32 but looked up from step 0, so that
``min_lr`` is that of 32 steps before; a NaN counts as the lowest loss.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._ktrain import trimmed_curve
from lrrt.core.rules._parts import NO_FINITE_LOSS, quiet

SKIP_START = 32


@quiet
def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    lr, smoothed, stopped = trimmed_curve(lr, loss)
    if not np.isfinite(smoothed).any():
        return abstain(NO_FINITE_LOSS, stopped)
    lowest = smoothed.argmin()
    descent = smoothed[SKIP_START:lowest]
    min_lr = float(lr[np.gradient(descent).argmin()]) if len(descent) >= 2 else None
    return Suggestion(min_lr, float(lr[lowest] / 10), stop_step=stopped)
