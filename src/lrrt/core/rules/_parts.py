"""What several rules share: stopping, trimming, gradients."""

import numpy as np

NO_FINITE_LOSS = "no loss it looks at is finite"
NEVER_FALLS = "no minimum: the smoothed loss never falls below the first that it looks at"

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


def never_falls(smoothed: np.ndarray) -> bool:
    """Whether no loss is lower than the first, but for the rounding of an average."""
    return bool(smoothed.min() >= smoothed[0] - 1e-12 * abs(smoothed[0]))


def too_few(found: int, needed: int) -> str:
    """The reason for an abstention on ``found`` recorded steps."""
    return f"too few steps: {found}, it needs {needed}"


def valley(loss: np.ndarray) -> int:
    """Index about half-way down the longest descent of ``loss``, as fastai 2 finds it.

    The descent is the longest decreasing subsequence; its steps need not be neighbours. If it is of
    length l and ends at step e, it is taken to start at s = e - l, and the answer is s + int(k) +
    int(k / 2) with k = l / 3.

    The bugs of the source are kept: the start is wrong wherever the subsequence skips steps, and -1
    (so that the answer can be the last step) where it skips none from the first on; without any
    descent the answer is the first step.
    """
    lengths = np.ones(len(loss), dtype=int)
    for i in range(1, len(loss)):
        lengths[i] += lengths[:i][loss[:i] > loss[i]].max(initial=0)
    end = int(lengths.argmax())
    length = int(lengths[end])
    if length == 1:
        return 0
    section = length / 3
    return end - length + int(section) + int(section / 2)
