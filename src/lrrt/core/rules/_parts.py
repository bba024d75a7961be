"""What several rules share: stopping, trimming, gradients."""

import numpy as np

NO_FINITE_LOSS = "no loss it looks at is finite"

#: As a decorator: infinite and NaN losses are data here, no reason for a warning.
quiet = np.errstate(all="ignore")


def stop_step(
    loss: np.ndarray, factor: float, *, before_update: bool = False, at_nan: bool = False
) -> int | None:
    """First step whose loss exceeds ``factor`` times the best so far, or None.

    ``before_update``: the best is that of earlier steps only, and the first step never stops.
    ``at_nan``: a NaN stops, too; otherwise none does, since it exceeds nothing.
    """
    best = np.minimum.accumulate(loss)
    if before_update:
        stops = np.concatenate([[False], loss[1:] > factor * best[:-1]])
    else:
        stops = loss > factor * best
    if at_nan:
        stops = stops | np.isnan(loss)
    return int(stops.argmax()) if stops.any() else None


def until(step: int | None, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """What had been recorded when the test ended at ``step``, that step included."""
    end = None if step is None else step + 1
    return tuple(array[:end] for array in arrays)


def too_few(found: int, needed: int) -> str:
    """The reason for an abstention on ``found`` recorded steps."""
    return f"too few steps: {found}, it needs {needed}"
