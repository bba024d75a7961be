"""How far one range test's LR is from another's: two modes where there are two, else a factor."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lrrt.analysis.statistics import (
    MINIMUM_RUNS,
    RESAMPLES,
    bootstrap_interval,
    share_interval,
    usable,
)

APART = 0.6  # decades: a wider gap between neighbours, more than all else is wide, parts two modes
FEWEST_LOW = 2  # runs that make a mode


class Spread(NamedTuple):
    """Of ``n`` LRs. ``low``: how many are in a low mode (0: there is one mode only), with the 95 %
    exact interval of their share; ``low_centre`` and ``centre``: medians of the low mode and of the
    others, whose standard deviation is ``sd`` decades; ``factor``: 90 over 10 % quantile, with its
    95 % bootstrap interval (NaN for fewer than six). The factor hangs on the count in the low mode
    where there is one."""

    n: int
    low: int
    share: tuple[float, float]
    low_centre: float
    centre: float
    sd: float
    factor: float
    factor_low: float
    factor_high: float


def spread_of(lrs: ArrayLike) -> Spread:
    """The spread of LRs, in log10; those that are not finite and positive are left out."""
    values = np.sort(np.log10(usable(lrs)))
    low = _low_mode(values)
    others = values[low:]

    def factor(sample: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.quantile(sample, 0.9, axis=axis) - np.quantile(sample, 0.1, axis=axis)

    ends = (np.nan, np.nan)
    if len(values) >= MINIMUM_RUNS:
        ends = bootstrap_interval([values], factor, resamples=RESAMPLES)
    return Spread(
        len(values),
        low,
        share_interval(low, len(values)) or (np.nan, np.nan),
        float(10 ** np.median(values[:low])) if low else np.nan,
        float(10 ** np.median(others)) if len(others) else np.nan,
        float(np.std(others, ddof=1)) if len(others) > 1 else np.nan,
        float(10 ** factor(values)) if len(values) > 1 else np.nan,
        *(float(10**end) for end in ends),
    )


def _low_mode(values: np.ndarray) -> int:
    """How many of the sorted values lie below the widest gap, if it parts a minority from others
    that are closer together than it is wide."""
    if len(values) < MINIMUM_RUNS:
        return 0
    gaps = np.diff(values)
    below = int(gaps.argmax()) + 1
    minority = FEWEST_LOW <= below <= len(values) // 2
    return below if minority and gaps[below - 1] >= APART else 0
