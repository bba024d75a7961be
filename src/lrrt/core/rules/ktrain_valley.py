"""ktrain 0.41, the third rate of ``learner.lr_estimate``: fastai's ``valley`` on all it recorded.

Smoothing and stop as in :mod:`lrrt.core.rules.ktrain`; nothing is trimmed. The bugs of the longest
descent are kept (:func:`lrrt.core.rules._parts.valley`).
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._ktrain import trimmed_curve
from lrrt.core.rules._parts import NO_FINITE_LOSS, quiet, valley


@quiet
def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    lr, smoothed, stopped = trimmed_curve(lr, loss)
    if not np.isfinite(smoothed).any():
        return abstain(NO_FINITE_LOSS, stopped)
    return Suggestion(None, float(lr[valley(smoothed)]), stop_step=stopped)
