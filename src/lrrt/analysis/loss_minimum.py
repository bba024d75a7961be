"""Where the loss of a range test turns: smoothed without lag, before it explodes."""

import numpy as np
from scipy.interpolate import make_smoothing_spline

from lrrt.analysis.statistics import running_median

EXPLOSION = 2  # times the best loss: what lies beyond says nothing about where the loss turned
PERIOD = 20
SHORTEST = 5  # steps of which there is a smoothing spline


def before_explosion(lr: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The steps before the running median of the loss exceeds ``EXPLOSION`` times its best so far,
    single losses cut at as many times that median; none of a curve that starts with losses that
    are not finite."""
    steady = running_median(loss)
    if not np.isfinite(steady[0]):
        return lr[:0], loss[:0]
    exploded = steady > EXPLOSION * np.minimum.accumulate(steady)
    stop = int(exploded.argmax()) if exploded.any() else len(lr)
    lr, loss, top = lr[:stop], loss[:stop], EXPLOSION * steady[:stop]
    return lr, np.where(np.isfinite(loss), np.minimum(loss, top), top)


def spline(loss: np.ndarray) -> np.ndarray:
    """The cubic smoothing spline over the steps, at least :data:`SHORTEST`, that halves a wave of
    :data:`PERIOD` steps, shape (steps,).

    It takes a wave of angular frequency w to 1 / (1 + lam w**4) of it (Silverman, 1984). How smooth
    is not left to cross-validation: that takes the explosion for the signal, and now and then the
    descent for noise.
    """
    steps = np.arange(len(loss), dtype=np.float64)
    return make_smoothing_spline(steps, loss, lam=(PERIOD / (2 * np.pi)) ** 4)(steps)


def lr_at_minimum(lr: np.ndarray, loss: np.ndarray) -> float:
    """The LR at the lowest point of the :func:`spline` through the losses before they explode; NaN
    where those are too few."""
    lr, loss = before_explosion(lr, loss)
    return float(lr[spline(loss).argmin()]) if len(lr) >= SHORTEST else np.nan
