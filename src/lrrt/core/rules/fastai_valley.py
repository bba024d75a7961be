"""fastai 2, ``valley``, its default: the LR about half-way down the longest descent.

Smoothing, stop and trimming: :mod:`lrrt.core.rules._fastai2`. The bugs of the longest descent are
kept (:func:`lrrt.core.rules._parts.valley`).
"""

import numpy as np

from lrrt.core.rules import Suggestion
from lrrt.core.rules._fastai2 import suggest_with
from lrrt.core.rules._parts import valley


def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    return suggest_with(_rate, lr, loss, needed=1, is_maximum=True)


def _rate(lr: np.ndarray, smoothed: np.ndarray) -> float:
    return lr[valley(smoothed)]
