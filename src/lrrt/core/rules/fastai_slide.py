"""fastai 2, ``slide``: where the gradient stops changing, walking down from the high rates.

Smoothing, stop and trimming: :mod:`lrrt.core.rules._fastai2`. Two pointers, 15 steps apart, slide
left from the right end as long as the gradients (by step) of the smoothed loss there differ by more
than 0.005; the answer is the LR at the left one. A bug, kept: the threshold is in units of the
loss, so that the answer changes with the loss's scale.
"""

import numpy as np

from lrrt.core.rules import Suggestion
from lrrt.core.rules._fastai2 import suggest_with

DISTANCE, THRESHOLD = 15, 0.005


def suggest(lr: np.ndarray, loss: np.ndarray) -> Suggestion:
    return suggest_with(_rate, lr, loss, needed=DISTANCE + 1, is_maximum=True)


def _rate(lr: np.ndarray, smoothed: np.ndarray) -> float:
    gradient = np.gradient(smoothed)
    found = left = len(lr) - 1 - DISTANCE
    while left >= 0 and abs(gradient[left + DISTANCE] - gradient[left]) > THRESHOLD:
        found = left
        left -= 1
    return lr[found]
