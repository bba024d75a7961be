"""How Lightning's finder smooths and stops: the same in all versions.

Smoothing: EMA, 0.98. A bug, kept: its bias is corrected by 1 - 0.98**(k + 1) after k losses, so
that it starts at about half the loss. Stop: smoothed loss above 4 times the best; a NaN does not
stop it.
"""

import numpy as np

from lrrt.core.rules._parts import stop_step, until
from lrrt.core.smoothing import ema

BETA = 0.98
SKIP_START, SKIP_END = 10, 1


def smoothed_losses(loss: np.ndarray) -> np.ndarray:
    """Its record of the losses, (steps,)."""
    seen = np.arange(1, len(loss) + 1)
    return ema(loss, BETA) * (1 - BETA**seen) / (1 - BETA ** (seen + 1))


def trimmed_curve(
    lr: np.ndarray, loss: np.ndarray, skip_start: int = SKIP_START, skip_end: int = SKIP_END
) -> tuple[np.ndarray, np.ndarray, int | None]:
    """LR and smoothed loss of the recorded steps [10:-1], the latter in float32, and the stop."""
    smoothed = smoothed_losses(loss)
    stopped = stop_step(smoothed, 4, before_update=True)
    lr, smoothed = until(stopped, lr, smoothed)
    part = slice(skip_start, max(len(lr) - skip_end, 0))
    return lr[part], smoothed[part].astype(np.float32), stopped


def steepest_over_lr(lr: np.ndarray, smoothed: np.ndarray) -> float | None:
    """LR at the least gradient over the LR itself among the finite losses; None below two."""
    finite = np.isfinite(smoothed)
    if finite.sum() < 2:
        return None
    lr, smoothed = lr[finite], smoothed[finite]
    return float(lr[np.gradient(smoothed, lr.astype(np.float32)).argmin()])
