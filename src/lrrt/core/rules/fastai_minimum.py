"""fastai 2, ``minimum``: a tenth of the LR at the lowest smoothed loss.

Smoothing, stop and trimming: :mod:`lrrt.core.rules._fastai2`.
"""

import numpy as np

from lrrt.core.rules import Suggestion
from lrrt.core.rules._fastai2 import suggest_with


def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    return suggest_with(_rate, lr, loss, needed=1, is_maximum=True)


def _rate(lr: np.ndarray, smoothed: np.ndarray) -> float:
    return lr[smoothed.argmin()] / 10
