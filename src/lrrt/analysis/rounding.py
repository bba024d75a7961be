"""The same range test with other rounding: what of the spread is neither weights nor batches."""

import numpy as np
import pandas as pd

from lrrt.analysis.dispersion import QUANTITIES
from lrrt.analysis.statistics import (
    MINIMUM_RUNS,
    RESAMPLES,
    bootstrap_interval,
    decades,
    mean_interval,
)

SWEEP, BESIDE = "rounding", "weights"
CASE = ["backend", "protocol", "batch_size"]
SEEDS = [*CASE, "weights_seed", "order_seed"]
MEASURES = ["effect", "low", "high", "rounding", "seeds", "share", "share_low", "share_high"]


def pairs(own: pd.DataFrame) -> pd.DataFrame:
    """Runs of the sweep ``rounding`` beside those of ``weights`` with the same seeds.

    Parameters
    ----------
    own : DataFrame
        Suggestions of each protocol's own rule.

    Returns
    -------
    DataFrame
        ``SEEDS``, then min_lr, max_lr, fallback and run of the weights sweep, and the same with
        ``_rounded`` appended. A run that both sweeps share is left out.
    """
    columns = [*SEEDS, "run", "fallback", *QUANTITIES]
    one, two = (own.loc[own["sweep"] == sweep, columns] for sweep in (BESIDE, SWEEP))
    both = one.merge(two, on=SEEDS, suffixes=("", "_rounded"))
    return both[both["run"] != both["run_rounded"]].reset_index(drop=True)


def spreads(paired: pd.DataFrame, resamples: int = RESAMPLES) -> pd.DataFrame:
    """What rounding alone does to the suggested LR, in decades, by case and quantity.

    Returns
    -------
    DataFrame
        backend, protocol, batch_size, quantity, ``n`` (pairs with both LRs), ``effect`` (mean of
        log10 rounded / not, with its t interval ``low``, ``high``), ``rounding`` (standard
        deviation of a run that rounding alone makes, from the differences of pairs), ``seeds``
        (that of runs of different seeds), ``share`` (of rounding in their variance; 1: the seeds
        say nothing) with ``share_low`` and ``share_high`` (percentile bootstrap over pairs; NaN
        for fewer than six).
    """
    rows = []
    for case, mine in paired.groupby(CASE, sort=True):
        for quantity in QUANTITIES:
            values = np.stack([decades(mine[quantity]), decades(mine[f"{quantity}_rounded"])])
            values = values[:, np.isfinite(values).all(axis=0)]
            row = dict(zip(CASE, case, strict=True))
            rows.append(row | {"quantity": quantity} | _spread(values, resamples))
    return pd.DataFrame(rows, columns=[*CASE, "quantity", "n", *MEASURES])


def _spread(values: np.ndarray, resamples: int) -> dict[str, float]:
    """Of log10 LRs, shape (2, n)."""
    n = values.shape[1]
    found = {"n": n} | dict.fromkeys(MEASURES, np.nan)
    if n == 0:
        return found
    difference = values[1] - values[0]
    found["effect"] = float(difference.mean())
    found["low"], found["high"] = mean_interval(difference)
    if n < 2:
        return found
    found["rounding"] = float(difference.std(ddof=1) / np.sqrt(2))
    found["seeds"] = float(np.sqrt(values.var(axis=1, ddof=1).mean()))
    found["share"] = _share(values)
    if n >= MINIMUM_RUNS and np.isfinite(found["share"]):
        found["share_low"], found["share_high"] = bootstrap_interval(
            [np.arange(n)], lambda picked: _share(values[:, picked]), resamples=resamples,
            vectorized=False,
        )  # fmt: skip
    return found


def _share(values: np.ndarray) -> float:
    """NaN where all runs have the same LR."""
    total = values.var(axis=1, ddof=1).mean()
    return float((values[1] - values[0]).var(ddof=1) / 2 / total) if total > 0 else np.nan
