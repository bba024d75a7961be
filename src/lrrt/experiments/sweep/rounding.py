"""The same range test with other rounding: what of the spread is neither weights nor batches."""

import numpy as np
import pandas as pd
from scipy import stats

from lrrt.analysis.ranges import QUANTITIES
from lrrt.analysis.statistics import CONFIDENCE, decades, mean_interval

REPEATED = {
    "weights": "rounding",
    "order": "rounding_order",
}  # a sweep, and where its runs are again
GROUP = ["sweep", "backend", "protocol", "batch_size"]
SEEDS = [*GROUP, "weights_seed", "order_seed"]
MEASURES = ["effect", "low", "high", "rounding", "seeds", "share", "share_low", "share_high"]


def pairs(own: pd.DataFrame) -> pd.DataFrame:
    """Runs of the sweeps ``rounding`` and ``rounding_order`` beside those of ``weights`` and
    ``order`` with the same seeds.

    Parameters
    ----------
    own : DataFrame
        Suggestions of each protocol's own rule.

    Returns
    -------
    DataFrame
        ``SEEDS``, then min_lr, max_lr, fallback and run of the sweep that is repeated, and the same
        with ``_rounded`` appended. A run that both sweeps share is left out.
    """
    rows = own[[*SEEDS, "run", "fallback", *QUANTITIES]]
    again = {name: sweep for sweep, name in REPEATED.items()}
    one = rows[rows["sweep"].isin(REPEATED)]
    two = rows[rows["sweep"].isin(again)]
    two = two.assign(sweep=two["sweep"].replace(again))
    both = one.merge(two, on=SEEDS, suffixes=("", "_rounded"))
    return both[both["run"] != both["run_rounded"]].reset_index(drop=True)


def spreads(paired: pd.DataFrame) -> pd.DataFrame:
    """What rounding alone does to the suggested LR, in decades, by case and quantity.

    An analysis of variance of n seeds, each measured twice, the mean difference between the two
    taken out (it is ``effect``).

    Returns
    -------
    DataFrame
        sweep (that is repeated), backend, protocol, batch_size, quantity, ``n`` (pairs with both
        LRs), ``effect`` (mean of log10 rounded / not, with its t interval ``low``, ``high``),
        ``rounding`` and ``seeds`` (standard deviations of a run's log10 LR that rounding makes and
        that the seeds make; 0 where the estimate of the variance is negative), ``share`` (of
        rounding in the sum of the two variances, with its exact F interval for normal effects,
        ``share_low``, ``share_high``; NaN where all LRs are equal).
    """
    rows = []
    for case, mine in paired.groupby(GROUP, sort=True):
        for quantity in QUANTITIES:
            values = np.stack([decades(mine[quantity]), decades(mine[f"{quantity}_rounded"])])
            values = values[:, np.isfinite(values).all(axis=0)]
            rows.append(dict(zip(GROUP, case, strict=True), quantity=quantity) | _spread(values))
    return pd.DataFrame(rows, columns=[*GROUP, "quantity", "n", *MEASURES])


def _spread(values: np.ndarray) -> dict[str, float]:
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
    within, between = difference.var(ddof=1) / 2, 2 * values.mean(axis=0).var(ddof=1)
    found["rounding"] = float(np.sqrt(within))
    found["seeds"] = float(np.sqrt(max(between - within, 0) / 2))
    if within + between == 0:
        return found
    # The ratio of the mean squares is, but for that of the variances, F with (n - 1, n - 1).
    ratio = between / within if within > 0 else np.inf
    quantile = stats.f.ppf((1 + CONFIDENCE) / 2, n - 1, n - 1)
    for name, value in (
        ("share", ratio),
        ("share_low", ratio * quantile),
        ("share_high", ratio / quantile),
    ):
        found[name] = float(min(2 / (1 + value), 1))
    return found
