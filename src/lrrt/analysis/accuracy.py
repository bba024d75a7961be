"""Accuracy over the learning rate, from trainings at scattered rates, beside what is suggested.

For trainings that are no grid: each set of weights at a few rates, other ones for other weights.
The independent unit is a set of weights.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from lrrt.analysis.statistics import (
    BOOTSTRAP_SEED,
    CONFIDENCE,
    RESAMPLES,
    log_quantiles,
    mean_interval,
)

BANDWIDTH = 0.15  # decades: standard deviation of the kernel
POINTS = 201  # at which the curve is computed
GOOD = 0.05  # of accuracy: "within five points of the best"
SMALLEST_SPREAD = 1e-3  # of the rates under the kernel: below it the local mean stands in
SUGGESTED_COLUMNS = [
    *("rule", "kind", "n", "abstained", "median_lr", "low_lr", "high_lr"),
    *("regret", "regret_low", "regret_high", "within"),
]
INTERVAL = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]


class AccuracyOverRate(NamedTuple):
    """All that a figure of accuracy over learning rate shows.

    ``trainings``: lr, accuracy (of the last epoch), outcome, weights_seed, one row a training.
    ``curve``: lr, accuracy, low, high (95 %, bootstrap over weights).
    ``best``: lr, accuracy, and good_from to good_to, the rates within five points of the best.
    ``suggested``: one row a rule and kind (``min``, ``middle``, ``max`` of a range; ``one`` rate):
    rule, kind, n, abstained, median_lr, low_lr and high_lr (10 and 90 %), regret (mean loss of
    accuracy against the best), regret_low and regret_high (95 %), within (share that lose less than
    five points); null where it always abstained.
    """

    trainings: pd.DataFrame
    curve: pd.DataFrame
    best: dict[str, float]
    suggested: pd.DataFrame


def accuracy_over_rate(
    outcomes: pd.DataFrame,
    suggestions: pd.DataFrame,
    backend: str,
    protocol: str,
    resamples: int = RESAMPLES,
) -> AccuracyOverRate:
    """What a study's constant-rate trainings say of its suggestions.

    The curve is a local-linear regression of accuracy on log LR (Gaussian kernel,
    :data:`BANDWIDTH`); beyond the outermost trained rate it keeps its value there. A training whose
    loss is not finite has the accuracy of a guess, the lowest of all. Intervals resample sets of
    weights and, for a rule, its draws.

    Parameters
    ----------
    outcomes, suggestions : DataFrame
        ``outcomes.parquet`` and ``suggestions.parquet`` of a study.
    backend, protocol : str
        Whose trainings, and whose range tests (of the weights sweep).
    """
    case = (outcomes["backend"] == backend) & (outcomes["protocol"] == protocol)
    constant = case & (outcomes["policy"] == "constant") & (outcomes["weights_from"] == "")
    trainings = outcomes[constant].drop_duplicates("run").sort_values("lr", kind="stable")
    guess = outcomes["final_val_accuracy"].min()
    trainings = trainings.assign(accuracy=trainings["final_val_accuracy"].fillna(guess))
    trainings = trainings[["lr", "accuracy", "outcome", "weights_seed"]].reset_index(drop=True)
    x, y = np.log10(trainings["lr"].to_numpy()), trainings["accuracy"].to_numpy()
    at = np.linspace(x.min(), x.max(), POINTS)
    counts = _resample(trainings["weights_seed"].to_numpy(), resamples)
    curve, curves = local_linear(x, y, at), local_linear(x, y, at, counts)
    low, high = np.nanquantile(curves, INTERVAL, axis=0)
    good = 10 ** at[curve >= curve.max() - GOOD]
    best = {"lr": 10 ** at[curve.argmax()], "accuracy": curve.max()}
    best |= {"good_from": good.min(), "good_to": good.max()}

    rows = []
    case = (suggestions["backend"] == backend) & (suggestions["protocol"] == protocol)
    random = np.random.default_rng(BOOTSTRAP_SEED)
    for rule, drawn in suggestions[case & (suggestions["sweep"] == "weights")].groupby("rule"):
        for kind, lrs in rates(drawn).items():
            given = lrs.dropna().to_numpy()
            row = {"rule": rule, "kind": kind, "n": len(given), "abstained": len(lrs) - len(given)}
            if not len(given):
                rows.append(row)
                continue
            regret = curve.max() - local_linear(x, y, np.log10(given))
            again = np.nanmax(curves, axis=1)[:, None] - local_linear(x, y, np.log10(given), counts)
            chosen = random.integers(0, len(given), again.shape)
            means = np.take_along_axis(again, chosen, axis=1).mean(axis=1)
            low_lr, median, high_lr = log_quantiles(given, [0.1, 0.5, 0.9])
            row |= {"median_lr": median, "low_lr": low_lr, "high_lr": high_lr}
            row |= dict(
                zip(("regret_low", "regret_high"), np.quantile(means, INTERVAL), strict=True)
            )
            rows.append(row | {"regret": regret.mean(), "within": (regret < GOOD).mean()})
    columns = {"lr": 10**at, "accuracy": curve, "low": low, "high": high}
    return AccuracyOverRate(
        trainings, pd.DataFrame(columns), best, pd.DataFrame(rows, columns=SUGGESTED_COLUMNS)
    )


def accuracy_over_grid(
    trainings: pd.DataFrame, scores: pd.DataFrame, setting: str, schedule: str = "constant"
) -> AccuracyOverRate:
    """The same of a setting that was trained over a grid of rates.

    ``low`` and ``high`` of the curve are the lowest and the highest seed at each rate; a regret's
    interval is over range tests. The rates that lose less than five points are interpolated in
    log LR. Rules times a constant are left out.

    Parameters
    ----------
    trainings, scores : DataFrame
        ``oracle_trainings.parquet`` and ``oracle_scores.parquet`` of a study.
    """
    rows = trainings[(trainings["setting"] == setting) & (trainings["schedule"] == schedule)]
    outcome = np.where(rows["diverged"], "diverged", "trains")
    trained = rows.assign(outcome=outcome, weights_seed=rows["seed"]).sort_values("lr")
    at_rate = trained.groupby("lr")["accuracy"]
    curve = at_rate.agg(accuracy="mean", low="min", high="max").reset_index()
    drawn = scores[(scores["setting"] == setting) & (scores["schedule"] == schedule)]
    ramp = 100 if (drawn["ramp_steps"] == 100).any() else drawn["ramp_steps"].max()
    drawn = drawn[(drawn["ramp_steps"] == ramp) & ~drawn["rule"].str.contains(" ")]
    lrs = np.geomspace(curve["lr"].min(), curve["lr"].max(), POINTS)
    means = np.interp(np.log10(lrs), np.log10(curve["lr"]), curve["accuracy"])
    good = lrs[means >= means.max() - GOOD]
    best = {"lr": drawn["best_lr"].iloc[0], "accuracy": curve["accuracy"].max()}
    best |= {"good_from": good.min(), "good_to": good.max()}
    rows = []
    for name, of_rule in drawn.groupby("rule"):
        rule, _, kind = name.partition(".")
        given, regret = of_rule[~of_rule["abstained"]], of_rule["regret_accuracy"].to_numpy()
        row = {"rule": rule, "kind": kind or "one", "n": len(given)}
        row |= {"abstained": len(of_rule) - len(given)}
        if len(given):
            low_lr, median, high_lr = log_quantiles(given["suggested_lr"], [0.1, 0.5, 0.9])
            interval = mean_interval(regret)
            row |= {"median_lr": median, "low_lr": low_lr, "high_lr": high_lr}
            row |= {"regret": regret.mean(), "within": (regret < GOOD).mean()}
            row |= dict(zip(("regret_low", "regret_high"), interval, strict=True))
        rows.append(row)
    trained = trained[["lr", "accuracy", "outcome", "weights_seed"]].reset_index(drop=True)
    return AccuracyOverRate(trained, curve, best, pd.DataFrame(rows, columns=SUGGESTED_COLUMNS))


def rates(suggestions: pd.DataFrame) -> dict[str, pd.Series]:
    """The rates that a rule's suggestions can be taken to mean, by kind; null where it abstained.

    ``min``, ``middle`` (geometric) and ``max`` of a rule that names ranges, else ``one``.
    """
    low, high = suggestions["min_lr"], suggestions["max_lr"]
    if low.isna().all() or high.isna().all():
        return {"one": high.fillna(low)}
    return {"min": low, "middle": np.sqrt(low * high), "max": high}


def local_linear(
    x: np.ndarray, y: np.ndarray, at: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Local-linear regression with a Gaussian kernel of :data:`BANDWIDTH`.

    Parameters
    ----------
    x, y : arrays of shape (n,)
        log10 of learning rates, and accuracies.
    at : array of shape (m,)
        Where the curve is wanted; beyond the outermost ``x`` it stays at its value there.
    weights : array of shape (..., n), optional
        How often each observation counts, as a bootstrap says.

    Returns
    -------
    array of shape (..., m)
    """
    away = x - np.clip(at, x.min(), x.max())[:, None]
    kernel = np.exp(-0.5 * (away / BANDWIDTH) ** 2)
    weights = np.ones(len(x)) if weights is None else weights
    s0, s1, s2 = (weights @ (kernel * away**power).T for power in range(3))
    t0, t1 = (weights @ (kernel * away**power * y).T for power in range(2))
    determinant = s0 * s2 - s1**2
    with np.errstate(invalid="ignore", divide="ignore"):
        sloped = (s2 * t0 - s1 * t1) / determinant
        return np.where(determinant > SMALLEST_SPREAD * (s0 * BANDWIDTH) ** 2, sloped, t0 / s0)


def _resample(units: np.ndarray, resamples: int) -> np.ndarray:
    """How often each observation counts when its ``units`` are resampled: (resamples, n)."""
    names, members = np.unique(units, return_inverse=True)
    chances = np.full(len(names), 1 / len(names))
    random = np.random.default_rng(BOOTSTRAP_SEED)
    return random.multinomial(len(names), chances, size=resamples)[:, members].astype(float)
