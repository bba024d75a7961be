"""NeuralProphet 0.5 to 1.0.0rc10, what ``fit`` takes where no learning rate is given.

Smoothing: Lightning's (:mod:`lrrt.core.rules._lightning`, bug included), then a Hamming window over
a tenth of the steps. Nothing stops the test and nothing is trimmed. The LR at the least gradient by
step. A bug, kept: a NaN counts as the steepest descent. Its ramp goes from 1e-6 to 10 in some 250
steps. The development version averages two suggestions: ``neuralprophet_mean``.
"""

import math

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._lightning import smoothed_losses
from lrrt.core.rules._neuralprophet import finite_end, steepest
from lrrt.core.rules._parts import NO_FINITE_LOSS, quiet, too_few


@quiet
def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    half_window = math.ceil(round(len(lr) * 0.1) / 2)
    lr, loss = finite_end(lr, loss)
    if len(lr) < 2:
        return abstain(too_few(len(lr), 2))
    smoothed = smoothed_losses(loss)
    if not np.isfinite(smoothed).any():
        return abstain(NO_FINITE_LOSS)
    return Suggestion(float(lr[steepest(smoothed, half_window)]), None)
