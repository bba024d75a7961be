"""Which factor moves the suggested range, by how many decades; and which part of a rule fired.

An effect is the mean over paired seeds of log10(LR after) - log10(LR before), in decades: means,
unlike medians, add up along a sequence of factors to the whole way.
"""

import itertools
from collections.abc import Iterable

import numpy as np
import pandas as pd

from lrrt.analysis.ranges import QUANTITIES
from lrrt.analysis.statistics import (
    Effect,
    decades,
    log_quantiles,
    paired_effect,
    share_interval,
    usable,
)
from lrrt.analysis.stored_curves import stored_suggestion
from lrrt.experiments.attribution.design import ALL, ALONE, SEQUENCE, Design, Rung
from lrrt.runs.store import Store

AVERAGED, UNEXPLAINED = "averaged", "unexplained"
RUNG = {
    "scale": "str",
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
BACKEND, PROTOCOL, INTERACTION = "backend", "protocol", "interaction"
CROSS_TYPES = {
    "effect_of": "str",
    "at": "str",
    "origin": "str",
    "target": "str",
    **{name: EFFECT_TYPES[name] for name in ("quantity", *Effect._fields)},
}
PUBLISHED, FACTOR, UNNAMED = "published", "factor", "not named"
TO_OURS, FROM_OURS = "to our runs", "from our runs"
WATERFALL_TYPES = {
    "scale": "str",
    "quantity": "str",
    "step": "int64",
    "kind": "str",
    "name": "str",
    "n": "int64",
    "before": "float64",
    "after": "float64",
    "effect": "float64",
    "low": "float64",
    "high": "float64",
    "share": "float64",
    "share_published": "float64",
}


SCHEMAS = {"attribution.parquet": EFFECT_TYPES, "attribution_runs.parquet": READING_TYPES}


def tables(design: Design, store: Store) -> dict[str, pd.DataFrame]:
    """``attribution_runs.parquet``, one row per rung and paired seed (:func:`readings`), and
    ``attribution.parquet``, one per rung and quantity (:func:`effects`); no rows without runs."""
    paired = readings(design.rungs, store)
    return {"attribution_runs.parquet": paired, "attribution.parquet": effects(paired)}


def readings(rungs: Iterable[Rung], store: Store) -> pd.DataFrame:
    """One row per rung and paired seed, columns and types of :data:`READING_TYPES`.

    NaN where a rule abstains. Raises like :func:`lrrt.analysis.stored_curves.stored_suggestion`.
    """
    rows = []
    for rung in rungs:
        for pair in zip(rung.before, rung.after, strict=True):
            row = dict(zip(RUNG, rung[: len(RUNG)], strict=True))
            row |= {"weights_seed": pair[0].weights_seed, "order_seed": pair[0].order_seed}
            for side, spec in zip(SIDES, pair, strict=True):
                found = stored_suggestion(spec, store)
                row[f"{side}_run"] = spec.key[:12]
                row[f"{side}_fallback"] = found.fallback
                for quantity in QUANTITIES:
                    row[f"{side}_{quantity}"] = getattr(found, quantity)
            rows.append(row)
    return pd.DataFrame(rows, columns=list(READING_TYPES)).astype(READING_TYPES)


def effects(readings: pd.DataFrame) -> pd.DataFrame:
    """The effect of every rung on min and max LR.

    Returns
    -------
    DataFrame
        One row per rung and quantity, columns and types of :data:`EFFECT_TYPES`: ``n`` seeds with
        a suggestion on both sides, ``abstained`` those without, ``fallbacks`` of the rule after
        the exchange; over the n seeds the geometric means ``before`` and ``after``, the
        ``effect`` in decades from origin to target, and its 95 % Student t interval
        over seeds ``low``, ``high`` (NaN for fewer than two).

        Where there are sequences, also for each factor the design ``averaged`` (the effect averaged
        over the orders, seed by seed: its Shapley value, as far as so few orders tell;
        ``fallbacks``: seeds with one in any order) and ``unexplained``: from the end of the
        sequences to the other protocol as it is. The intervals are over seeds, not over orders.
        A seed without a suggestion anywhere on the way then counts as abstained all along it, so
        that the parts add up to the whole.
    """
    readings = _whole_ways(readings)
    rows = []
    for rung, group in readings.groupby(list(RUNG), sort=False):
        for quantity in QUANTITIES:
            before, after = (decades(group[f"{side}_{quantity}"]) for side in SIDES)
            fallbacks = int(group["after_fallback"].sum())
            rows.append((*rung, quantity, *paired_effect(before, after), fallbacks))
    for scale, group in readings.groupby("scale", sort=False):
        rows += [(scale, *row) for row in (*_average_effects(group), *_unexplained_effects(group))]
    return pd.DataFrame(rows, columns=list(EFFECT_TYPES)).astype(EFFECT_TYPES)


def _whole_ways(readings: pd.DataFrame) -> pd.DataFrame:
    """Where there are sequences: no LR of a seed that lacks one somewhere on the way, from one
    protocol as it is to the other."""
    found = readings.copy()
    sequenced = found["scale"].isin(found.loc[found["design"] == SEQUENCE, "scale"])
    way = found["design"].isin([ALL, SEQUENCE]) & sequenced
    if not way.any():
        return found
    seeds = [found.loc[way, "scale"], found.loc[way, "weights_seed"]]
    for quantity in QUANTITIES:
        sides = [f"{side}_{quantity}" for side in SIDES]
        known = np.isfinite(decades(found.loc[way, sides])).all(axis=1)
        whole = pd.Series(known, index=found.index[way]).groupby(seeds).transform("all")
        found.loc[whole.index[~whole], sides] = np.nan
    return found


def _average_effects(readings: pd.DataFrame) -> list[tuple]:
    """By factor, each seed's effect averaged over all orders; a seed in which an order has no
    suggestion on either side counts as abstained."""
    rows = []
    sequences = readings[readings["design"] == SEQUENCE]
    for factor, group in sequences.groupby("factor", sort=False):
        ends = (group["origin"].iloc[0], group["target"].iloc[0])
        for quantity in QUANTITIES:
            sides = [
                group.assign(decades=decades(group[f"{side}_{quantity}"]))
                .pivot(index="weights_seed", columns="order", values="decades")
                .to_numpy()
                .mean(axis=1)
                for side in SIDES
            ]
            fallbacks = int(group.groupby("weights_seed")["after_fallback"].any().sum())
            effect = paired_effect(*sides)
            rows.append((AVERAGED, -1, -1, factor, *ends, quantity, *effect, fallbacks))
    return rows


def _unexplained_effects(readings: pd.DataFrame) -> list[tuple]:
    """From the protocol with all listed factors exchanged to the other one as it is."""
    sequence = readings[(readings["design"] == SEQUENCE) & (readings["order"] == 0)]
    whole = readings[readings["design"] == ALL].set_index("weights_seed")
    if not len(sequence) or not len(whole):
        return []
    last = sequence[sequence["step"] == sequence["step"].max()].set_index("weights_seed")
    ends = (whole["origin"].iloc[0], whole["target"].iloc[0])
    rows = []
    for quantity in QUANTITIES:
        sides = (
            decades(last[f"after_{quantity}"].reindex(whole.index)),
            decades(whole[f"after_{quantity}"]),
        )
        found, fallbacks = paired_effect(*sides), int(whole["after_fallback"].sum())
        rows.append((UNEXPLAINED, -1, -1, "", *ends, quantity, *found, fallbacks))
    return rows


def in_one_direction(effects: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Of the effects at one scale the rows of one quantity, all in the direction of the whole way:
    an effect measured from the other end has its sign, and the ends of its interval, turned round.
    """
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


def framework_or_protocol(own: pd.DataFrame) -> pd.DataFrame:
    """Every two backends by every two protocols: the effect of each on min and max LR.

    Parameters
    ----------
    own : DataFrame
        Suggestions of each protocol's own rule from one sweep and batch size, whose runs are
        paired by both seeds: same weights, same batches.

    Returns
    -------
    DataFrame
        Columns and types of :data:`CROSS_TYPES`. ``effect_of`` a ``backend``, from ``origin`` to
        ``target``, ``at`` one protocol, or averaged over both; of a ``protocol``, at one backend
        or both (``at`` names both); and their ``interaction``, by how much the effect of the
        protocols that ``at`` names differs between the backends. The rest as in :func:`effects`.
    """
    keys = {"index": ["weights_seed", "order_seed"], "columns": [BACKEND, PROTOCOL]}
    runs = own.pivot(**keys, values="run")
    rows = []
    for quantity in QUANTITIES:
        table = own.assign(decades=decades(own[quantity])).pivot(**keys, values="decades")
        pairs = [
            list(itertools.combinations(sorted(own[name].unique()), 2))
            for name in (BACKEND, PROTOCOL)
        ]
        for backends, protocols in itertools.product(*pairs):
            cells = [(backend, protocol) for backend in backends for protocol in protocols]
            if not set(cells) <= set(table.columns):
                continue
            paired = runs[cells].notna().all(axis=1)
            found = table.loc[paired, cells].to_numpy(np.float64)
            found = found.reshape(-1, 2, 2)  # seed, backend, protocol
            both = [" and ".join(names) for names in (backends, protocols)]
            of_backend = zip(protocols, found[:, 0].T, found[:, 1].T, strict=True)
            of_protocol = zip(backends, found[:, :, 0].T, found[:, :, 1].T, strict=True)
            compared = [
                *((BACKEND, at, backends, *sides) for at, *sides in of_backend),
                (BACKEND, both[1], backends, found[:, 0].mean(axis=1), found[:, 1].mean(axis=1)),
                *((PROTOCOL, at, protocols, *sides) for at, *sides in of_protocol),
                (
                    PROTOCOL,
                    both[0],
                    protocols,
                    found[:, :, 0].mean(axis=1),
                    found[:, :, 1].mean(axis=1),
                ),
                (
                    INTERACTION,
                    both[1],
                    backends,
                    found[:, 0, 1] - found[:, 0, 0],
                    found[:, 1, 1] - found[:, 1, 0],
                ),
            ]
            for effect_of, at, ends, *sides in compared:
                effect = paired_effect(*sides)
                if effect_of == INTERACTION:  # of differences, which are no LRs
                    effect = effect._replace(before=np.nan, after=np.nan)
                rows.append((effect_of, at, *ends, quantity, *effect))
    found = pd.DataFrame(rows, columns=list(CROSS_TYPES)).astype(CROSS_TYPES)
    # An effect at one level belongs to several pairs of three levels or more: listed once.
    return found.drop_duplicates([*list(CROSS_TYPES)[:4], "quantity"], ignore_index=True)


def waterfall(effects: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """From one published LR, by way of the named factors, to the other.

    Parameters
    ----------
    effects : DataFrame
        Of :func:`effects`.
    published : DataFrame
        :func:`lrrt.analysis.published.published`.

    Returns
    -------
    DataFrame
        By scale and quantity, steps whose ends meet, columns and types of
        :data:`WATERFALL_TYPES`. ``kind``: ``published`` (an end, and no step: ``before`` and
        ``after`` are equal), ``to our runs`` and ``from our runs`` (of the protocol whose published
        value that is), ``factor`` (the mean over sequences, or where there are none, alone in the
        first protocol; the largest first) and ``not named``. ``effect`` in decades, with its
        interval where there is one; ``share`` of the way between our two ends, ``share_published``
        of that between the published ones. Where a protocol was not published, from and to our
        ends.
    """
    rows = []
    theirs = published[published["sweep"] == "weights"]
    for (scale, quantity), mine in effects.groupby(["scale", "quantity"], sort=False):
        whole = mine[mine["design"] == ALL]
        if not len(whole) or not np.isfinite(whole["effect"].iloc[0]):
            continue
        whole = whole.iloc[0]
        medians = theirs[theirs["quantity"] == quantity].set_index("protocol")["median"]
        ends = [float(medians.get(whole[end], np.nan)) for end in ("origin", "target")]
        known = bool(np.isfinite(ends).all())
        gap = float(np.log10(ends[1] / ends[0])) if known else np.nan
        steps = _named_steps(mine, whole)
        if known:
            start, end = (
                (kind, whole[name], int(whole["n"]), float(np.log10(to / origin)), np.nan, np.nan)
                for kind, name, origin, to in (
                    (TO_OURS, "origin", ends[0], whole["before"]),
                    (FROM_OURS, "target", whole["after"], ends[1]),
                )
            )
            steps = [
                (PUBLISHED, whole["origin"], 0, 0.0, np.nan, np.nan),
                start,
                *steps,
                end,
                (PUBLISHED, whole["target"], 0, 0.0, np.nan, np.nan),
            ]
        at = np.log10(ends[0] if known else whole["before"])
        for step, (kind, name, n, effect, low, high) in enumerate(steps):
            inner = kind in (FACTOR, UNNAMED)
            rows.append(
                (
                    scale,
                    quantity,
                    step,
                    kind,
                    name,
                    n,
                    10**at,
                    10 ** (at + effect),
                    effect,
                    low,
                    high,
                    effect / whole["effect"] if inner and whole["effect"] else np.nan,
                    effect / gap if known and gap and kind != PUBLISHED else np.nan,
                )
            )
            at += effect
    return pd.DataFrame(rows, columns=list(WATERFALL_TYPES)).astype(WATERFALL_TYPES)


def _named_steps(effects: pd.DataFrame, whole: pd.Series) -> list[tuple]:
    """From one protocol as it is to the other, of one scale and quantity: the factors, the largest
    first, and what they leave."""
    factors, left = effects[effects["design"] == AVERAGED], ""
    if not len(factors):
        left = "interactions"  # are in what the factors alone do not add up to
        factors = effects[(effects["design"] == ALONE) & (effects["origin"] == whole["origin"])]
    factors = factors.dropna(subset=["effect"])
    factors = factors.iloc[np.argsort(-factors["effect"].abs().to_numpy(), kind="stable")]
    steps = [
        (FACTOR, row["factor"], row["n"], row["effect"], row["low"], row["high"])
        for row in factors.to_dict("records")
    ]
    rest = whole["effect"] - factors["effect"].sum()
    return [*steps, (UNNAMED, left, int(whole["n"]), rest, np.nan, np.nan)]


def fallback_table(suggestions: pd.DataFrame, own: pd.DataFrame, steepest: str) -> pd.DataFrame:
    """How often each protocol's own rule fell back, and what its min LR would be otherwise.

    Parameters
    ----------
    suggestions, own : DataFrame
        Of all rules, and of those each protocol's own (:mod:`lrrt.analysis.suggestions`).
    steepest : str
        The rule whose min LR is put beside: the steepest descent of the whole curve.

    Returns
    -------
    DataFrame
        One row per backend, protocol and sweep of a protocol whose rule fell back at least once,
        in whatever sweep: ``n`` runs with a suggestion, ``fallbacks``, their ``share`` and its
        95 % exact interval ``low``, ``high``; the medians (log10) of the min LR of the runs that
        ``fell_back``, on the same runs by the ``steepest`` rule, and of the runs whose own rule
        ``found`` one.
    """
    case = ["backend", "protocol", "sweep"]
    columns = [*case, "n", "fallbacks", "share", "low", "high", "fell_back", "steepest", "found"]
    other = suggestions[suggestions["rule"] == steepest].set_index([*case, "run"])["min_lr"]
    falls = own.loc[own["fallback"].astype(bool), "protocol"].unique()
    rows = []
    for identity, group in own[own["protocol"].isin(falls)].groupby(case, sort=True):
        fell = group["fallback"].astype(bool)
        total, count = len(usable(group["max_lr"])), int(fell.sum())
        if total == 0:
            continue
        same_runs = other.reindex(pd.MultiIndex.from_frame(group.loc[fell, [*case, "run"]]))
        medians = [
            float(log_quantiles(values, [0.5])[0])
            for values in (group.loc[fell, "min_lr"], same_runs, group.loc[~fell, "min_lr"])
        ]
        rows.append(
            (*identity, total, count, count / total, *share_interval(count, total), *medians)
        )
    return pd.DataFrame(rows, columns=columns)
