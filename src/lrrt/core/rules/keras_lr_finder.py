"""keras_lr_finder (surmenok, master of July 2020), ``get_best_lr(sma=1)``.

No smoothing. Stop: raw loss above 4 times the best of the steps before, or NaN. The LR at the least
change of the raw loss from the step before, on the recorded steps [10:-5]; the package averages
the change over ``sma`` steps, a value it leaves to the caller, and its own plots take 1.
"""

import numpy as np

from lrrt.core.rules import Suggestion, abstain
from lrrt.core.rules._parts import NO_FINITE_LOSS, quiet, stop_step, too_few, until

SKIP_START, SKIP_END = 10, 5


@quiet
def suggest(
    lr: np.ndarray,
    loss: np.ndarray,
    *,
    skip_start: int = SKIP_START,
    skip_end: int = SKIP_END,
) -> Suggestion:
    stopped = stop_step(loss, 4, before_update=True, at_nan=True)
    lr, loss = until(stopped, lr, loss)
    if len(lr) < skip_start + skip_end + 1:
        return abstain(too_few(len(lr), skip_start + skip_end + 1), stopped)
    part = slice(skip_start, len(lr) - skip_end)
    if not np.isfinite(loss[part]).any():
        return abstain(NO_FINITE_LOSS, stopped)
    change = np.diff(loss, prepend=loss[0])
    return Suggestion(float(lr[part][change[part].argmin()]), None, stop_step=stopped)
