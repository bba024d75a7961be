"""The post's calls of fastai 1.0.60's finder.

Smoothing: EMA, 0.98, bias corrected. Stop: smoothed loss above 4 times the best, or NaN; the loss
of the stopping step is recorded, too.

- minimum: LR at the least gradient (by step) of the smoothed loss on the recorded steps [10:-5],
  ``Recorder.plot(suggestion=True)``;
- maximum: a tenth of the LR at the lowest smoothed loss of all recorded steps. (The post's figures
  alone stretch the grid to end at 100; its published values lie on the recorded one.)

A bug, kept: a NaN that stops the test counts as the lowest loss. It abstains on 16 steps or fewer,
where the post's notebook fails, and, where that answers, if the loss never falls or none is finite.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._parts import (
    NEVER_FALLS,
    NO_FINITE_LOSS,
    never_falls,
    quiet,
    stop_step,
    too_few,
    until,
)
from lrrt.core.smoothing import ema

BETA = 0.98
STOP_FACTOR = 4
SKIP_START, SKIP_END = 10, 5


@quiet
def suggest(
    lr: np.ndarray,
    loss: np.ndarray,
    *,
    beta: float = BETA,
    stop_factor: float = STOP_FACTOR,
    skip_start: int = SKIP_START,
    skip_end: int = SKIP_END,
) -> Suggestion:
    smoothed = ema(loss, beta)
    stopped = stop_step(smoothed, stop_factor, at_nan=True)
    lr, smoothed = until(stopped, lr, smoothed)
    if len(lr) < skip_start + skip_end + 2:
        return abstain(too_few(len(lr), skip_start + skip_end + 2), stopped)
    if not np.isfinite(smoothed).any():
        return abstain(NO_FINITE_LOSS, stopped)
    if never_falls(smoothed):
        return abstain(NEVER_FALLS, stopped)
    part = slice(skip_start, len(lr) - skip_end)
    steepest = np.gradient(smoothed[part]).argmin()
    return Suggestion(
        min_lr=float(lr[part][steepest]),
        max_lr=float(lr[smoothed.argmin()] / 10),
        stop_step=stopped,
    )
