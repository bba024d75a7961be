"""Do sets of weights differ? Tests and intervals for weights crossed with batches, each run once.

Max LR has two modes, so that effects are not normal. The test is by permutation. The interval of
the weights' share of the variance is a generalised confidence interval (see
:mod:`lrrt.experiments.variance.tables`) with half of the degrees of freedom: with all of them it
covers 64 to 85 % where weights are a mixture of modes, with half 92 % or more there and with normal
and heavy-tailed effects (``benchmarks/coverage.py``, 400 designs of each kind).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from lrrt.analysis.statistics import BOOTSTRAP_SEED, CONFIDENCE, decades

BATCHES = ["order_seed", "augmentation_seed"]
PERMUTATIONS = 4999
DRAWS = 4000
CAUTION = 2  # the degrees of freedom are divided by it


class WeightsTest(NamedTuple):
    """``f``: mean square of weights over that of their interaction with batches, with its normal
    ``p_normal``; ``p``: by permutation; ``share`` of the variance that the weights make (within 0
    and 1); ``spread``: their standard deviation."""

    f: float
    p_normal: float
    p: float
    share: float
    spread: float


def by_weights_and_batches(runs: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """log10 of a quantity of one case's runs: a row per set of weights, a column per batches of
    which no run lacks it."""
    values = runs.assign(value=decades(runs[quantity]), augmentation_seed=-1)
    if runs["augmentation_seed"].notna().all():
        values["augmentation_seed"] = runs["augmentation_seed"]
    table = values.pivot(index="weights_seed", columns=BATCHES, values="value")
    return table.dropna(axis=1)


def _mean_squares(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of weights, of batches and of what is left; ``values`` has shape (..., weights, batches)."""
    rows, columns = values.shape[-2:]
    grand = values.mean((-2, -1), keepdims=True)
    by_row, by_column = (values.mean(axis, keepdims=True) - grand for axis in (-1, -2))
    left = values - grand - by_row - by_column
    squares = ((part**2).sum((-2, -1)) for part in (by_row, by_column, left))
    scales = columns / (rows - 1), rows / (columns - 1), 1 / ((rows - 1) * (columns - 1))
    return tuple(square * scale for square, scale in zip(squares, scales, strict=True))


def _share(weights, batches, left, shape: tuple[int, int]) -> np.ndarray:
    """The share of the weights' component in the sum of all three, within 0 and 1."""
    rows, columns = shape
    component = (weights - left) / columns
    total = component + (batches - left) / rows + left
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(np.where(total > 0, component / total, 0.0), 0.0, 1.0)


def weights_test(values: np.ndarray) -> WeightsTest | None:
    """Whether sets of weights differ beyond what batches and chance do; always the same answer.

    Parameters
    ----------
    values : array of shape (weights, batches)
        log10 LR of each combination, finite.

    Returns
    -------
    WeightsTest, or None for fewer than two of either, or equal values throughout. Under the
    permutations, of weights within each column, the batches' effect is the same.
    """
    rows, columns = values.shape
    if min(rows, columns) < 2 or np.ptp(values) == 0:
        return None
    weights, batches, left = _mean_squares(values)
    with np.errstate(divide="ignore"):
        f = float(np.divide(weights, left))
    random = np.random.default_rng(BOOTSTRAP_SEED)
    shuffled = random.permuted(np.tile(values, (PERMUTATIONS, 1, 1)), axis=1)
    # The rows' sum of squares orders the permutations as F does: the rest is the same in all.
    as_large = shuffled.mean(-1).var(-1) >= values.mean(-1).var() * (1 - 1e-9)
    return WeightsTest(
        f,
        float(stats.f.sf(f, rows - 1, (rows - 1) * (columns - 1))),
        float((1 + as_large.sum()) / (1 + PERMUTATIONS)),
        float(_share(weights, batches, left, values.shape)),
        float(np.sqrt(max(weights - left, 0.0) / columns)),
    )


def weights_share(values: np.ndarray, caution: float = CAUTION) -> tuple[float, float]:
    """95 % interval of the share of the variance that the weights make; see the module.

    What the same weights leave of the standard deviation is the square root of what is left of 1
    (:func:`remaining_spread_interval`); of a table turned on its side, all of it is of batches.
    """
    rows, columns = values.shape
    random = np.random.default_rng(BOOTSTRAP_SEED)
    freedoms = rows - 1, columns - 1, (rows - 1) * (columns - 1)
    drawn = [
        square * freedom / random.chisquare(freedom, DRAWS)
        for square, freedom in zip(
            _mean_squares(values),
            (freedoms[0] / caution, freedoms[1], freedoms[2] / caution),
            strict=True,
        )
    ]
    ends = np.quantile(_share(*drawn, values.shape), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(ends[0]), float(ends[1])


def remaining_spread_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of what the same weights leave of the standard deviation."""
    low, high = weights_share(values)
    return (1 - high) ** 0.5, (1 - low) ** 0.5
