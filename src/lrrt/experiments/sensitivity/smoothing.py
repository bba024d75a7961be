"""Why the usual smoothing moves the lowest loss: what is its lag, and what where the curve ends.

An EMA is read up to the rule's own stop, beyond which the loss explodes; one without lag is read
before the explosion. The shift between the two is the sum of a *truncation* (the same EMA, of the
curve cut before the explosion) and of the *lag* proper (EMA against two-sided average of the same
cut curve).
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lrrt.analysis.loss_minimum import SHORTEST, before_explosion
from lrrt.analysis.statistics import BOOTSTRAP_SEED, CONFIDENCE, paired_effect
from lrrt.analysis.suggestions import runs_of
from lrrt.core import rules
from lrrt.core.protocol import Protocol
from lrrt.core.recording import recording
from lrrt.core.smoothing import ema
from lrrt.experiments.sensitivity.tables import MEAN_BETA, STEEPEST, landmarks, two_sided

RESAMPLES = 400  # of runs
COLUMNS = ("protocol", "backend", "part", "n", "effect", "low", "high")

Run = tuple[np.ndarray, np.ndarray]


def smoothing_shift(curves: pd.DataFrame, protocols: Mapping[str, Protocol]) -> pd.DataFrame:
    """How far too high an EMA puts the LR of the lowest loss, in decades, by part.

    Parameters
    ----------
    curves : DataFrame
        Range tests (:data:`.suggestions.CURVE_TYPES`), those of a backend and protocol on one grid.

    Returns
    -------
    DataFrame
        One row per backend, protocol and ``part``: ``truncation``, ``lag``, ``both`` (their sum),
        means over the ``n`` runs with a minimum in each, with their 95 % Student t interval; and
        ``against the mean curve``: of a run's EMA to the minimum of the mean over runs, with a
        percentile bootstrap interval over runs, since all runs share that mean.
    """
    cases: dict[tuple[str, str], list[Run]] = {}
    for identity, curve in runs_of(curves):
        case = identity["protocol"], identity["backend"]
        cases.setdefault(case, []).append(recording(curve, protocols[case[0]]))
    rows = []
    for case, runs in cases.items():
        at = np.log10([_minima(run) for run in runs])
        parts = {"truncation": (1, 0), "lag": (2, 1), "both": (2, 0)}
        for part, (before, after) in parts.items():
            found = paired_effect(at[:, before], at[:, after])
            rows.append((*case, part, found.n, found.effect, found.low, found.high))
        rows.append((*case, "against the mean curve", len(runs), *_mean_curve(runs)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _minima(run: Run) -> tuple[float, float, float]:
    """A tenth of the LR at the lowest loss: by the rule; by its EMA, and without lag, of the curve
    cut before the explosion. NaN for none."""
    usual = rules.replay(STEEPEST, *run).max_lr
    lr, loss = before_explosion(*run)
    if len(lr) < SHORTEST:
        return usual or np.nan, np.nan, np.nan
    return (usual or np.nan, *(landmarks(lr, s)[1] or np.nan for s in (ema(loss), two_sided(loss))))


def _mean_curve(runs: list[Run]) -> tuple[float, float, float]:
    grid, losses = runs[0][0], np.stack([loss for _, loss in runs])
    usual = np.log10([rules.replay(STEEPEST, *run).max_lr or np.nan for run in runs])

    def shift(drawn: np.ndarray) -> float:
        with np.errstate(invalid="ignore", over="ignore"):
            mean = losses[drawn].mean(axis=0)
        lr, loss = before_explosion(grid, mean)
        if len(lr) < SHORTEST:
            return np.nan
        lowest = landmarks(lr, two_sided(loss, MEAN_BETA))[1]
        return float(np.nanmean(usual[drawn]) - np.log10(lowest)) if lowest else np.nan

    random = np.random.default_rng(BOOTSTRAP_SEED)
    drawn = [shift(random.integers(0, len(runs), len(runs))) for _ in range(RESAMPLES)]
    ends = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return shift(np.arange(len(runs))), float(ends[0]), float(ends[1])
