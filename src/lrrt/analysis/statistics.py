"""The few statistics that the study and the audits rest on: NumPy and SciPy, no frames.

LRs are treated in log10. Every resampling begins with the same seed: same data, same interval.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 2000
BOOTSTRAP_SEED = 0
# Fewer runs than this cannot give a 95 % interval of a median: all of n lie on one side of it with
# probability 2 / 2^n.
MINIMUM_RUNS = 6
WINDOW = 5  # steps of the running median that takes batch noise, and no more, out of a raw loss


def are_usable(values: ArrayLike) -> np.ndarray:
    """Which of the LRs are finite and positive, bool of the same shape."""
    values = np.asarray(values, dtype=np.float64)
    return np.isfinite(values) & (values > 0)


def usable(values: ArrayLike) -> np.ndarray:
    """Those of the LRs that are finite and positive, as float64."""
    return np.asarray(values, dtype=np.float64)[are_usable(values)]


def decades(lrs: ArrayLike) -> np.ndarray:
    """log10 of LRs, as float64 of the same shape; NaN where one is not positive."""
    values = np.asarray(lrs, dtype=np.float64)
    return np.log10(values, out=np.full(values.shape, np.nan), where=values > 0)


def log_quantiles(values: ArrayLike, quantiles: Sequence[float]) -> np.ndarray:
    """Quantiles of LRs, interpolated in log10; NaN where no LR is usable."""
    values = usable(values)
    if not len(values):
        return np.full(len(quantiles), np.nan)
    return 10 ** np.quantile(np.log10(values), quantiles)


def column_quantiles(values: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
    """Quantiles over the rows of ``values`` (runs, steps), shape (quantiles, steps).

    A loss that is not finite counts as infinitely large, so that a run that blew up is not
    dropped; a quantile that lies beyond, or interpolates towards, such a run is infinite.
    """
    values = np.where(np.isfinite(values), values, np.inf)
    below = np.quantile(values, quantiles, axis=0, method="lower")
    above = np.quantile(values, quantiles, axis=0, method="higher")
    with np.errstate(invalid="ignore"):
        between = np.quantile(values, quantiles, axis=0)
    return np.where(below == above, below, np.where(np.isfinite(above), between, np.inf))


def running_median(loss: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Centred running median over an odd ``window`` of steps, shape (steps,); what is not finite
    counts as infinitely large."""
    padded = np.pad(np.where(np.isfinite(loss), loss, np.inf), window // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)


def bootstrap_interval(
    samples: Sequence[np.ndarray], statistic: Callable, *, resamples: int
) -> tuple[float, float]:
    """95 % percentile bootstrap interval, each sample resampled by itself, always the same.

    ``statistic`` takes the samples and ``axis``, as NumPy's do.
    """
    found = stats.bootstrap(
        tuple(samples),
        statistic,
        n_resamples=resamples,
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(BOOTSTRAP_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def median_interval(values: ArrayLike, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the median of LRs, in log10.

    NaN for fewer than two usable LRs. Below :data:`MINIMUM_RUNS` the interval cannot reach its
    95 %, whatever the method.
    """
    values = usable(values)
    if len(values) < 2:
        return np.nan, np.nan
    low, high = bootstrap_interval([np.log10(values)], np.median, resamples=resamples)
    return float(10**low), float(10**high)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean, Student's t; NaN for fewer than two values.

    (The percentile bootstrap of a mean covers 50 % at two values, 84 % at five.)
    """
    if len(values) < 2:
        return np.nan, np.nan
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return float(np.mean(values) - half), float(np.mean(values) + half)


class Effect(NamedTuple):
    """Over the ``n`` seeds with a suggestion on both sides (``abstained``: the others): geometric
    means ``before`` and ``after``; the mean ``effect`` in decades with its 95 % Student t interval
    ``low``, ``high`` (NaN for fewer than two)."""

    n: int
    before: float
    after: float
    effect: float
    low: float
    high: float
    abstained: int


def paired_effect(before: np.ndarray, after: np.ndarray) -> Effect:
    """From the log10 LRs of paired seeds, NaN where a rule abstained."""
    paired = np.isfinite(before) & np.isfinite(after)
    differences = after[paired] - before[paired]
    middle = start = end = np.nan
    if len(differences):
        middle = float(differences.mean())
        start, end = (float(10 ** side[paired].mean()) for side in (before, after))
    interval = mean_interval(differences)
    return Effect(len(differences), start, end, middle, *interval, int((~paired).sum()))


def share_interval(count: int, total: int) -> tuple[float, float] | None:
    """95 % exact interval (Clopper and Pearson, 1934) of a share; None of nothing.

    It covers at least 95 % whatever the share. Wilson's interval is shorter and excludes one half
    after four of four, which happens by chance in one case of eight.
    """
    if total == 0:
        return None
    found = stats.binomtest(count, total).proportion_ci(CONFIDENCE, method="exact")
    return float(found.low), float(found.high)


def common_slope(
    groups: Iterable[tuple[Sequence[float], Sequence[float]]],
) -> tuple[float, tuple[float, float], int] | None:
    """Slope of y against x that all groups share, each with an intercept of its own.

    Least squares on what is left of x and y after their groups' means; Student's t with
    n - groups - 1 degrees of freedom. Values that are not finite are left out.

    Returns
    -------
    (slope, 95 % interval, n), or None for fewer than two different x in every group, or too few
    values for an interval.
    """
    xs, ys, count = [], [], 0
    for x, y in groups:
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        kept = np.isfinite(x) & np.isfinite(y)
        if len(np.unique(x[kept])) > 1:
            xs.append(x[kept] - x[kept].mean())
            ys.append(y[kept] - y[kept].mean())
            count += 1
    freedom = sum(map(len, xs)) - count - 1
    if count == 0 or freedom < 1:
        return None
    x, y = np.concatenate(xs), np.concatenate(ys)
    fit = stats.linregress(x, y)
    error = fit.stderr * math.sqrt((len(x) - 2) / freedom)  # linregress took one intercept off
    half = error * stats.t.ppf((1 + CONFIDENCE) / 2, freedom)
    return float(fit.slope), (float(fit.slope - half), float(fit.slope + half)), len(x)
