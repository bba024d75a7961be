"""Which factor moves the suggested range, by how many decades; and which part of a rule fired.

An effect is the mean over paired seeds of log10(LR after) - log10(LR before), in decades: means,
unlike medians, add up along a sequence of factors to the whole way.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from lrrt.analysis.dispersion import QUANTITIES, RESAMPLES, log_quantiles, usable
from lrrt.analysis.evidence import bootstrap_interval, share_interval
from lrrt.core import rules
from lrrt.core.curve import Curve
from lrrt.core.replay import recorded
from lrrt.errors import InputError
from lrrt.runs.ladder import ALL, SEQUENCE, Rung
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Store

SHAPLEY, UNEXPLAINED = "shapley", "unexplained"
RUNG = {
    "design": "str",
    "order": "int64",
    "step": "int64",
    "factor": "str",
    "origin": "str",
    "target": "str",
}
SIDES = ("before", "after")
READING_TYPES = (
    RUNG
    | {"weights_seed": "int64", "order_seed": "int64"}
    | {f"{side}_run": "str" for side in SIDES}
    | {f"{side}_{name}": "float64" for side in SIDES for name in QUANTITIES}
    | {f"{side}_fallback": "bool" for side in SIDES}
)
EFFECT_TYPES = RUNG | {
    "quantity": "str",
    "n": "int64",
    "before": "float64",
    "after": "float64",
    "effect": "float64",
    "low": "float64",
    "high": "float64",
    "abstained": "int64",
    "fallbacks": "int64",
}


def read(spec: RunSpec, store: Store) -> rules.Suggestion:
    """What the rule of the specification's own protocol says about the stored curve.

    Raises
    ------
    InputError
        For a run that the store lacks.
    """
    result = store.get(spec.key)
    if result is None:
        raise InputError("run", spec.key[:12], f"a run kept in {store.path}")
    arrays = {name: result.arrays[name] for name in ("lr", "loss", "penalty", "grad_norm")}
    return rules.replay(spec.protocol.rule, *recorded(Curve(**arrays), spec.protocol))


def readings(rungs: Iterable[Rung], store: Store) -> pd.DataFrame:
    """One row per rung and paired seed, columns and types of :data:`READING_TYPES`.

    NaN where a rule abstains. Raises like :func:`read`.
    """
    rows = []
    for rung in rungs:
        for pair in zip(rung.before, rung.after, strict=True):
            row = dict(zip(RUNG, rung[: len(RUNG)], strict=True))
            row |= {"weights_seed": pair[0].weights_seed, "order_seed": pair[0].order_seed}
            for side, spec in zip(SIDES, pair, strict=True):
                found = read(spec, store)
                row[f"{side}_run"] = spec.key[:12]
                row[f"{side}_fallback"] = found.fallback
                for quantity in QUANTITIES:
                    row[f"{side}_{quantity}"] = getattr(found, quantity)
            rows.append(row)
    return pd.DataFrame(rows, columns=list(READING_TYPES)).astype(READING_TYPES)


def effects(readings: pd.DataFrame, resamples: int = RESAMPLES) -> pd.DataFrame:
    """The effect of every rung on min and max LR.

    Returns
    -------
    DataFrame
        One row per rung and quantity, columns and types of :data:`EFFECT_TYPES`: ``n`` seeds with
        a suggestion on both sides, ``abstained`` those without, ``fallbacks`` of the rule after
        the exchange; over the n seeds the geometric means ``before`` and ``after``, the
        ``effect`` in decades from origin to target, and its 95 % percentile bootstrap interval
        over seeds ``low``, ``high`` (NaN for fewer than two).

        Where there are sequences, also for each factor the design ``shapley`` (the effect averaged
        over the orders, seed by seed) and ``unexplained``: from the end of the sequences to the
        other protocol as it is.
    """
    rows = []
    for rung, group in readings.groupby(list(RUNG), sort=False):
        for quantity in QUANTITIES:
            before, after = (_decades(group[f"{side}_{quantity}"]) for side in SIDES)
            fallbacks = int(group["after_fallback"].sum())
            rows.append((*rung, quantity, *_effect(before, after, resamples, fallbacks)))
    rows += _averaged(readings[readings["design"] == SEQUENCE], resamples)
    rows += _unexplained(readings, resamples)
    return pd.DataFrame(rows, columns=list(EFFECT_TYPES)).astype(EFFECT_TYPES)


def _decades(lrs: pd.Series) -> np.ndarray:
    values = lrs.to_numpy(np.float64)
    return np.log10(values, out=np.full(len(values), np.nan), where=values > 0)


def _effect(
    before: np.ndarray, after: np.ndarray, resamples: int, fallbacks: int
) -> tuple[int, float, float, float, float, float, int, int]:
    """``EFFECT_TYPES`` from ``n`` on, from the log10 LRs of paired seeds."""
    paired = np.isfinite(before) & np.isfinite(after)
    differences = after[paired] - before[paired]
    low = high = middle = start = end = np.nan
    if len(differences):
        middle = float(differences.mean())
        start, end = (float(10 ** side[paired].mean()) for side in (before, after))
    if len(differences) > 1:
        low, high = bootstrap_interval([differences], np.mean, resamples=resamples)
    return (len(differences), start, end, middle, low, high, int((~paired).sum()), fallbacks)


def _averaged(sequences: pd.DataFrame, resamples: int) -> list[tuple]:
    """Shapley values by factor, each seed's effect averaged over all orders; a seed in which an
    order has no suggestion on either side counts as abstained."""
    rows = []
    for factor, group in sequences.groupby("factor", sort=False):
        ends = (group["origin"].iloc[0], group["target"].iloc[0])
        for quantity in QUANTITIES:
            sides = [
                group.assign(decades=_decades(group[f"{side}_{quantity}"]))
                .pivot(index="weights_seed", columns="order", values="decades")
                .to_numpy()
                .mean(axis=1)
                for side in SIDES
            ]
            found = _effect(*sides, resamples, int(group["after_fallback"].sum()))
            rows.append((SHAPLEY, -1, -1, factor, *ends, quantity, *found))
    return rows


def _unexplained(readings: pd.DataFrame, resamples: int) -> list[tuple]:
    """From the protocol with all listed factors exchanged to the other one as it is."""
    sequence = readings[(readings["design"] == SEQUENCE) & (readings["order"] == 0)]
    whole = readings[readings["design"] == ALL].set_index("weights_seed")
    if not len(sequence) or not len(whole):
        return []
    last = sequence[sequence["step"] == sequence["step"].max()].set_index("weights_seed")
    ends = (whole["origin"].iloc[0], whole["target"].iloc[0])
    rows = []
    for quantity in QUANTITIES:
        sides = (_decades(last[f"after_{quantity}"].reindex(whole.index)),
                 _decades(whole[f"after_{quantity}"]))  # fmt: skip
        found = _effect(*sides, resamples, int(whole["after_fallback"].sum()))
        rows.append((UNEXPLAINED, -1, -1, "", *ends, quantity, *found))
    return rows


def oriented(effects: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """The rows of one quantity, all of them in the direction of the whole way: an effect measured
    from the other end has its sign, and the ends of its interval, turned round."""
    rows = effects[effects["quantity"] == quantity].reset_index(drop=True)
    whole = rows[rows["design"] == ALL]
    if not len(whole):
        return rows
    turned = rows["origin"] != whole["origin"].iloc[0]
    found = rows.copy()
    found.loc[turned, "effect"] = -rows.loc[turned, "effect"]
    found.loc[turned, "low"] = -rows.loc[turned, "high"]
    found.loc[turned, "high"] = -rows.loc[turned, "low"]
    return found


def fired(suggestions: pd.DataFrame, own: pd.DataFrame, steepest: str) -> pd.DataFrame:
    """How often each protocol's own rule fell back, and what its min LR would be otherwise.

    Parameters
    ----------
    suggestions, own : DataFrame
        Of all rules, and of those each protocol's own (:mod:`lrrt.analysis.tables`).
    steepest : str
        The rule whose min LR is put beside: the steepest descent of the whole curve.

    Returns
    -------
    DataFrame
        One row per backend, protocol and sweep in which a rule fell back at least once: ``n`` runs
        with a suggestion, ``fallbacks``, their ``share`` and its 95 % Wilson interval ``low``,
        ``high``; the medians (log10) of the min LR of the runs that ``fell_back``, on the same
        runs by the ``steepest`` rule, and of the runs whose own rule ``found`` one.
    """
    case = ["backend", "protocol", "sweep"]
    columns = [*case, "n", "fallbacks", "share", "low", "high", "fell_back", "steepest", "found"]
    other = suggestions[suggestions["rule"] == steepest].set_index([*case, "run"])["min_lr"]
    rows = []
    for identity, group in own.groupby(case, sort=True):
        fell = group["fallback"].astype(bool)
        total, count = len(usable(group["max_lr"])), int(fell.sum())
        if count == 0:
            continue
        same_runs = other.reindex(pd.MultiIndex.from_frame(group.loc[fell, [*case, "run"]]))
        medians = [
            float(log_quantiles(values, [0.5])[0])
            for values in (group.loc[fell, "min_lr"], same_runs, group.loc[~fell, "min_lr"])
        ]
        rows.append((*identity, total, count, count / total, *share_interval(count, total),
                     *medians))  # fmt: skip
    return pd.DataFrame(rows, columns=columns)

