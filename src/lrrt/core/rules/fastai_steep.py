"""fastai 2, ``steep``: the LR at the steepest descent of the smoothed loss over ln LR.

Smoothing, stop and trimming: :mod:`lrrt.core.rules._fastai2`. The slope is that from each step to
the next, and the LR the one before it.
"""

import numpy as np

from lrrt.core.rules import Suggestion
from lrrt.core.rules._fastai2 import suggest_with


def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    return suggest_with(_rate, lr, loss, needed=2, is_maximum=False)


def _rate(lr: np.ndarray, smoothed: np.ndarray) -> float:
    return lr[(np.diff(smoothed) / np.diff(np.log(lr.astype(np.float32)))).argmin()]
