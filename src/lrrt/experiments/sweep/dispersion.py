"""How much curves and suggestions vary from run to run.

Quantiles and intervals of an LR are taken in log10. The 10-90 % bands describe the runs; an
interval is given for a median only, since at n = 20 a bootstrap interval of an outer quantile does
not cover what it says.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lrrt.analysis.published import published
from lrrt.analysis.ranges import QUANTITIES
from lrrt.analysis.statistics import (
    RESAMPLES,
    column_quantiles,
    common_slope,
    decades,
    log_quantiles,
    median_interval,
    usable,
)
from lrrt.analysis.suggestions import by_own_rule, runs_of
from lrrt.core.protocol import Protocol
from lrrt.core.recording import recording
from lrrt.core.smoothing import ema

GROUP = ["backend", "protocol", "sweep", "batch_size"]


def loss_bands(
    curves: pd.DataFrame,
    protocols: Mapping[str, Protocol],
    quantiles: tuple[float, float] = (0.1, 0.9),
) -> pd.DataFrame:
    """Median and band of the smoothed loss that each protocol's finder records, across runs.

    Returns
    -------
    DataFrame
        One row per backend, protocol, sweep, batch size and step: ``lr`` (beside which the loss
        is recorded), ``low``, ``median``, ``high`` (nats, penalty included where the protocol
        records it; infinite where too many runs have blown up) and ``n`` (runs).
    """
    cases: dict[tuple, list[tuple[np.ndarray, np.ndarray]]] = {}
    for identity, curve in runs_of(curves):
        lr, loss = recording(curve, protocols[identity["protocol"]])
        cases.setdefault(tuple(identity[name] for name in GROUP), []).append((lr, ema(loss)))
    columns = [*GROUP, "step", "lr", "low", "median", "high", "n"]
    parts = []
    for case, runs in cases.items():
        low, median, high = column_quantiles(
            np.stack([smoothed for _, smoothed in runs]), [quantiles[0], 0.5, quantiles[1]]
        )
        parts.append(
            pd.DataFrame(
                dict(zip(GROUP, case, strict=True))
                | {"step": np.arange(len(median)), "lr": runs[0][0]}
                | {"low": low, "median": median, "high": high, "n": len(runs)}
            )[columns]
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def range_summary(suggestions: pd.DataFrame, resamples: int = RESAMPLES) -> pd.DataFrame:
    """Medians and 10-90 % quantiles of the suggested LRs.

    Returns
    -------
    DataFrame
        One row per backend, protocol, sweep, batch size, rule and quantity (``min_lr``,
        ``max_lr``): ``n`` (runs), of which ``abstained`` (no value) and ``fallbacks``; over the
        others ``q10``, ``median``, ``q90`` and ``median_low``, ``median_high``
        (:func:`median_interval`).
    """
    rows = []
    for case, group in suggestions.groupby([*GROUP, "rule"], sort=True, observed=True):
        for quantity in QUANTITIES:
            values = usable(group[quantity])
            q10, median, q90 = log_quantiles(values, (0.1, 0.5, 0.9))
            rows.append(
                (
                    *case,
                    quantity,
                    len(group),
                    len(group) - len(values),
                    int(group["fallback"].astype(bool).sum()),
                    q10,
                    median,
                    q90,
                    *median_interval(values, resamples),
                )
            )
    columns = [
        *GROUP,
        "rule",
        "quantity",
        "n",
        "abstained",
        "fallbacks",
        "q10",
        "median",
        "q90",
        "median_low",
        "median_high",
    ]
    return pd.DataFrame(rows, columns=columns)


def published_comparison(
    suggestions: pd.DataFrame,
    protocols: Mapping[str, Protocol],
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Our medians beside the published ones, each by its protocol's own rule.

    Returns
    -------
    DataFrame
        One row per published median for which there are runs (per batch size): the columns of
        :func:`range_summary`, ``published_median``, ``published_q10``, ``published_q90``, and
        ``inside``: whether our median lies in the published 10-90 % bar (None where no bar was
        published, or no run of ours has a suggestion).
    """
    ours = range_summary(by_own_rule(suggestions, protocols), resamples)
    theirs = published().rename(
        columns={name: f"published_{name}" for name in ("median", "q10", "q90")}
    )
    table = theirs.merge(ours, on=["backend", "protocol", "sweep", "quantity"], how="inner")
    known = table[["published_q10", "published_q90", "median"]].notna().all(axis=1)
    within = table["median"].between(table["published_q10"], table["published_q90"])
    table["inside"] = within.astype(object).where(known, None)
    published_columns = [name for name in table if name.startswith("published_")]
    return table[[*ours.columns, *published_columns, "inside"]]


def by_seed(suggestions: pd.DataFrame, quantity: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """log10 batch size and log10 of one quantity, of the runs of each pair of seeds."""
    return [
        (np.log10(rows["batch_size"].to_numpy(np.float64)), decades(rows[quantity]))
        for _, rows in suggestions.groupby(["weights_seed", "order_seed"])
    ]


def batch_size_slopes(suggestions: pd.DataFrame) -> pd.DataFrame:
    """Slope of log10 suggested LR against log10 batch size, by least squares.

    A slope of 1 is linear scaling (LR proportional to batch size), 0.5 square-root scaling. Runs of
    equal seeds have an intercept of their own: they differ in nothing but the batches.

    Returns
    -------
    DataFrame
        One row per backend, protocol, sweep, rule and quantity of which two batch sizes and three
        runs or more have a suggestion: ``n`` (runs), ``batch_sizes`` (distinct), ``slope``, its
        95 % interval ``low``, ``high`` (:func:`lrrt.analysis.statistics.common_slope`), and whether
        that holds ``linear`` (1) and ``square_root`` (0.5).
    """
    keys = ["backend", "protocol", "sweep", "rule"]
    rows = []
    for case, group in suggestions.groupby(keys, sort=True, observed=True):
        for quantity in QUANTITIES:
            fit = common_slope(by_seed(group, quantity))
            if fit is None:
                continue
            slope, (low, high), n = fit
            distinct = group.loc[np.isfinite(decades(group[quantity])), "batch_size"].nunique()
            holds = [bool(low <= scaling <= high) for scaling in (1, 0.5)]
            rows.append((*case, quantity, n, distinct, slope, low, high, *holds))
    columns = [
        *keys,
        "quantity",
        "n",
        "batch_sizes",
        "slope",
        "low",
        "high",
        "linear",
        "square_root",
    ]
    return pd.DataFrame(rows, columns=columns)
