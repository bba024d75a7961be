"""Where the spread of the suggested LR comes from: initial weights, batch order, augmentation.

Of a crossed design, each combination run once, log10 LR is a mean plus one random effect per
factor and one per interaction: the levels are seeds, drawn out of any number of them. A run that is
repeated gives the same bits, so that nothing but the highest interaction is left over.

Variances come from expected mean squares (method of moments; Searle, Casella and McCulloch,
"Variance Components", 1992, chapter 4), for these balanced designs unbiased whatever the effects'
distribution, and so at times negative. Their intervals are generalised confidence intervals
(Weerahandi, 1993; Burdick, Borror and Montgomery, "Design and Analysis of Gauge R&R Studies",
2005), which take the effects as normal: each sum of squares is put over chi-square draws of its
degrees of freedom. (A bootstrap over levels is right for no crossed design: McCullagh, "Resampling
and exchangeable arrays", 2000.) Of 300 simulated designs of 4 x 4, 4 x 4 x 3 or 5 x 5 x 2 levels
in each of four cases, 95 to 100 % of the intervals of a ratio (:func:`spread_table`) held the
truth, 92 to 100 % of those of a share and 84 to 97 % of those of the total; with effects that have
the tails of Student's t with 3 degrees 87 to 100, 80 to 100 and 80 to 92 %. Two levels say next to
nothing about the variance of a factor, and such an interval shows it.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from lrrt.analysis.ranges import QUANTITIES
from lrrt.analysis.statistics import BOOTSTRAP_SEED, CONFIDENCE, decades
from lrrt.analysis.stored_curves import stored_suggestion
from lrrt.errors import InputError
from lrrt.experiments.variance.design import Design, DesignPoint
from lrrt.runs.store import Store

SOURCES = ("weights", "order", "augmentation")
TOTAL = "total"
DRAWS = 10_000
EARLY = 10  # times the ramp's first LR: its first decade, where the loss can only be noise
ROUNDING = 1e-12  # of a difference of variances, relative to the total
RUN_TYPES = {
    "run": "str",
    "backend": "str",
    "protocol": "str",
    "depth": "int64",
    "batch_size": "int64",
    "weights_seed": "int64",
    "order_seed": "int64",
    "augmentation_seed": "Int64",
    "min_lr": "float64",
    "max_lr": "float64",
    "fallback": "bool",
    "early": "bool",
    "reversed": "bool",
    "reason": "str",
}
GROUP = {"backend": "str", "protocol": "str", "depth": "int64", "quantity": "str"}
COUNTS = {
    "n": "int64",
    "dropped": "int64",
    "abstained": "int64",
    "fallbacks": "int64",
    "early": "int64",
    "reversed": "int64",
    "reason": "str",
}
COMPONENT_TYPES = (
    GROUP
    | {"component": "str", "freedom": "int64"}
    | dict.fromkeys(
        ("variance", "variance_low", "variance_high", "share", "low", "high"), "float64"
    )
    | COUNTS
)
SPREAD_TYPES = (
    GROUP
    | {"fixed": "str"}
    | dict.fromkeys(("all", "left", "ratio", "low", "high", "least", "most"), "float64")
    | dict.fromkeys(("sound", "sound_low", "sound_high"), "float64")
    | {"sound_n": "int64"}
    | dict.fromkeys(("to_weights", "to_weights_low", "to_weights_high"), "float64")
    | COUNTS
)

SCHEMAS = {
    "variance.parquet": COMPONENT_TYPES,
    "variance_runs.parquet": RUN_TYPES,
    "variance_spread.parquet": SPREAD_TYPES,
}

_NONE = (np.nan,) * 3

Term = tuple[int, ...]  # the axes of the factors in a main effect or an interaction


def tables(design: Design, store: Store) -> dict[str, pd.DataFrame]:
    """``variance_runs.parquet``: one row per combination; ``variance.parquet``: the components of
    the variance; ``variance_spread.parquet``: what is left of the spread with some factors fixed.
    No rows where ``variance.weights`` is 0."""
    runs = run_table(design.points, store)
    return {
        "variance_runs.parquet": runs,
        "variance.parquet": component_table(runs),
        "variance_spread.parquet": spread_table(runs),
    }


def terms(factors: int) -> list[Term]:
    """Main effects, then interactions, in the order of the axes."""
    return [
        term
        for size in range(1, factors + 1)
        for term in itertools.combinations(range(factors), size)
    ]


def name_of(term: Term) -> str:
    """``weights:order`` and the like."""
    return ":".join(SOURCES[axis] for axis in term)


def mean_squares(values: np.ndarray) -> dict[Term, tuple[float, int]]:
    """The mean square of every term and its degrees of freedom.

    Parameters
    ----------
    values : array with an axis per factor, of two levels or more each; finite
    """
    effects = {(): values.mean(keepdims=True)}
    found = {}
    for term in terms(values.ndim):
        others = tuple(axis for axis in range(values.ndim) if axis not in term)
        inner = [effect for part, effect in effects.items() if set(part) < set(term)]
        effects[term] = values.mean(axis=others, keepdims=True) - sum(inner)
        freedom = int(np.prod([values.shape[axis] - 1 for axis in term]))
        squares = float(np.sum(effects[term] ** 2)) * _cells_per_level(values.shape, term)
        found[term] = squares / freedom, freedom
    return found


def _cells_per_level(shape: tuple[int, ...], term: Term) -> int:
    return int(np.prod([count for axis, count in enumerate(shape) if axis not in term]))


def variances(expected: dict[Term, np.ndarray], shape: tuple[int, ...]) -> dict[Term, np.ndarray]:
    """The components of variance whose expected mean squares are given.

    The expected mean square of a term is the sum over it and all interactions that contain it of
    (cells per level) times component; this is that sum turned round. Mean squares in the place of
    their expectations give the estimates, which can be negative.
    """
    return {
        term: sum(
            (-1) ** (len(wider) - len(term)) * expected[wider]
            for wider in expected
            if set(term) <= set(wider)
        )
        / _cells_per_level(shape, term)
        for term in expected
    }


class Decomposition(NamedTuple):
    """By term, ``freedom``, the ``estimate`` and ``draws``, shape (:data:`DRAWS`,), whose quantiles
    are the ends of intervals; both may be negative."""

    freedom: dict[Term, int]
    estimate: dict[Term, float]
    draws: dict[Term, np.ndarray]


def decompose(values: np.ndarray, draws: int = DRAWS) -> Decomposition:
    """The components of variance of a complete design (see :func:`mean_squares`), always the same.

    All zero where all values are equal.
    """
    if np.ptp(values) == 0:
        values = np.zeros(values.shape)  # without the rounding of means
    squares = mean_squares(values)
    random = np.random.default_rng(BOOTSTRAP_SEED)
    pivots = {
        term: square * freedom / random.chisquare(freedom, draws)
        for term, (square, freedom) in squares.items()
    }
    return Decomposition(
        {term: freedom for term, (_, freedom) in squares.items()},
        variances({term: square for term, (square, _) in squares.items()}, values.shape),
        variances(pivots, values.shape),
    )


def complete(values: np.ndarray) -> list[np.ndarray] | None:
    """Levels of each axis that leave no missing (NaN) value; None where fewer than two of one do.

    Until none is missing, the level of all axes with more than two is dropped of which the largest
    share is missing (the first, of equal ones). What is missing is seldom missing at random, so
    that what remains describes the seeds for which the rule had an answer.
    """
    kept = [np.arange(count) for count in values.shape]
    if min(values.shape) < 2:
        return None
    while np.isnan(part := values[np.ix_(*kept)]).any():
        worst, axis, level = 0.0, -1, -1
        for i in (i for i in range(values.ndim) if len(kept[i]) > 2):
            shares = np.isnan(part).mean(axis=tuple(j for j in range(values.ndim) if j != i))
            if shares.max() > worst:
                worst, axis, level = float(shares.max()), i, int(shares.argmax())
        if axis < 0:
            return None
        kept[axis] = np.delete(kept[axis], level)
    return kept


# --- tables


def run_table(points: Iterable[DesignPoint], store: Store) -> pd.DataFrame:
    """One row per cell, columns and types of :data:`RUN_TYPES`; LRs NaN where the rule abstains.

    ``augmentation_seed`` is null where the augmentation goes with the order. ``early``: min LR lies
    in the ramp's first decade. ``reversed``: it is above max LR.

    Raises
    ------
    InputError
        For a run that the store lacks.
    """
    rows = []
    for protocol, spec in points:
        found = stored_suggestion(spec, store)
        rows.append(
            (
                spec.key[:12],
                spec.backend,
                protocol,
                getattr(spec.model, "depth", 0),
                spec.batch_size,
                spec.weights_seed,
                spec.order_seed,
                spec.augmentation_seed,
                found.min_lr,
                found.max_lr,
                found.fallback,
                found.min_lr is not None and found.min_lr < EARLY * spec.protocol.ramp.start,
                found.reversed,
                found.reason,
            )
        )
    return pd.DataFrame(rows, columns=list(RUN_TYPES)).astype(RUN_TYPES)


def design(runs: pd.DataFrame, quantity: str) -> np.ndarray:
    """log10 of one quantity, an axis per factor with more than one level, levels by seed.

    NaN where a combination has no suggestion.

    Raises
    ------
    InputError
        For a combination that is there twice.
    """
    seeds = [f"{factor}_seed" for factor in SOURCES]
    if runs["augmentation_seed"].nunique() < 2:
        seeds = seeds[:2]
    if runs.duplicated(seeds).any():
        raise InputError("variance", f"{len(runs)} runs", "each combination of seeds once")
    levels = [np.unique(runs[name].to_numpy(np.int64)) for name in seeds]
    at = [
        np.searchsorted(level, runs[name].to_numpy(np.int64))
        for level, name in zip(levels, seeds, strict=True)
    ]
    values = np.full([len(level) for level in levels], np.nan)
    values[tuple(at)] = decades(runs[quantity])
    return values


class _Found(NamedTuple):
    """Of one case: the columns :data:`GROUP`, factors, :data:`COUNTS`; the values that were used,
    log10 LR, and their decomposition, or None; and, where min LRs are odd (early, or above max
    LR), what of the design is complete without them. (A max LR below min LR is as good a reading as
    any: to leave it out would be to choose by the outcome.)"""

    case: tuple
    factors: int
    counts: tuple
    values: np.ndarray | None
    parts: Decomposition | None
    sound: np.ndarray | None


def _complete_part(values: np.ndarray) -> np.ndarray | None:
    levels = complete(values)
    return None if levels is None else values[np.ix_(*levels)]


def _cases(runs: pd.DataFrame) -> Iterator[_Found]:
    for identity, group in runs.groupby(list(GROUP)[:-1], sort=False):
        for quantity in QUANTITIES:
            values = design(group, quantity)
            used = _complete_part(values)
            abstained = int(np.isnan(values).sum())
            found, reason, n = None, "", 0
            if used is None:
                reason = (
                    f"{abstained} of {values.size} combinations have no suggestion: no complete "
                    "design with two levels of each factor is left"
                )
            else:
                found, n = decompose(used), used.size
                if not any(found.estimate.values()):
                    reason = "all suggestions are equal"
                elif not _total(found.estimate):
                    reason = "the components of variance add up to nothing: take more levels"
            flagged = (int(group[name].sum()) for name in ("fallback", "early", "reversed"))
            counts = (n, values.size - n, abstained, *flagged, reason)
            odd = (group["reversed"] | group["early"]) & (quantity == "min_lr")
            kept = group.assign(**{quantity: group[quantity].mask(odd)})
            sound = _complete_part(design(kept, quantity)) if odd.any() else None
            yield _Found((*identity, quantity), values.ndim, counts, used, found, sound)


def component_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Components of the variance of log10 LR, in decades squared.

    Returns
    -------
    DataFrame
        One row per case, quantity and component, columns and types of :data:`COMPONENT_TYPES`.
        ``component``: a factor, an interaction (``weights:order``; the highest is also all that is
        left over) or ``total``. ``variance`` as estimated, maybe negative, which add up to the
        total; ``share`` of the total, kept within 0 and 1, so that shares can add up to more;
        95 % intervals. Of the planned runs, ``n`` are used and
        ``dropped`` not, since in ``abstained`` of them the rule suggests nothing (see
        :func:`complete`); ``fallbacks`` as flagged by the rule; in ``early`` of them min LR
        lies in the ramp's first decade, in ``reversed`` it is above max LR. Where
        nothing can be said the numbers are NaN, and ``reason`` says why.
    """
    rows = []
    for case, factors, counts, _, found, _ in _cases(runs):
        for term in [*terms(factors), None]:
            name = TOTAL if term is None else name_of(term)
            if found is None:
                rows.append((*case, name, 0, *[np.nan] * 6, *counts))
                continue
            total, total_draws = _total(found.estimate), _total(found.draws)
            if term is None:
                value, freedom, draws = total, 0, total_draws
            else:
                value, freedom = found.estimate[term], found.freedom[term]
                draws = np.maximum(found.draws[term], 0)
            shares = _NONE
            if total:
                drawn = _interval(np.minimum(draws / total_draws, 1))
                shares = float(np.clip(value / total, 0, 1)), *drawn
            rows.append((*case, name, freedom, value, *_interval(draws), *shares, *counts))
    return pd.DataFrame(rows, columns=list(COMPONENT_TYPES)).astype(COMPONENT_TYPES)


def spread_table(runs: pd.DataFrame) -> pd.DataFrame:
    """How much of the spread of log10 LR is left where some factors are fixed.

    Returns
    -------
    DataFrame
        One row per case, quantity and proper subset of the factors that is ``fixed``
        (``order:augmentation``: the same batches), columns and types of :data:`SPREAD_TYPES`:
        the standard deviation ``all`` with nothing fixed and what is ``left``, in decades; their
        ``ratio``, and that of what is left to what is left with the weights fixed,
        ``to_weights``, with 95 % intervals. ``least`` and ``most``: what becomes of the ratio
        where one level of one factor (of more than two) is left out, each in turn, since an
        interval that takes effects as normal does not show what hangs on a single seed; ``sound``:
        the ratio of min LR in the ``sound_n`` runs that are left where early ones and those above
        max LR count as none (:func:`complete`), NaN where there are none.
        The other columns as in :func:`component_table`.

        An effect of the fixed factors alone moves all runs alike; their interactions with the
        others do not, and stay.
    """
    rows = []
    for case, factors, counts, values, found, sound in _cases(runs):
        estimates = []
        if found is not None:
            others = [decompose(part, draws=1).estimate for part in _one_left_out(values)]
            estimates = [found.estimate, *others]
            without = decompose(sound) if sound is not None else None
        for fixed in terms(factors)[:-1]:
            if found is None:
                rows.append((*case, name_of(fixed), *[np.nan] * 10, 0, *_NONE, *counts))
                continue
            ratios = [
                (_remaining_variance(e, fixed) / _total(e)) ** 0.5 for e in estimates if _total(e)
            ]
            rows.append(
                (
                    *case,
                    name_of(fixed),
                    *(_remaining_variance(found.estimate, names) ** 0.5 for names in ((), fixed)),
                    *_ratio(found, fixed, ()),
                    min(ratios, default=np.nan),
                    max(ratios, default=np.nan),
                    *(_ratio(without, fixed, ()) if without else _NONE),
                    0 if sound is None else sound.size,
                    *_ratio(found, fixed, (0,)),
                    *counts,
                )
            )
    return pd.DataFrame(rows, columns=list(SPREAD_TYPES)).astype(SPREAD_TYPES)


def _one_left_out(values: np.ndarray) -> Iterator[np.ndarray]:
    for axis, count in enumerate(values.shape):
        yield from (np.delete(values, level, axis) for level in range(count) if count > 2)


def _total(components: dict) -> np.ndarray:
    """Negative components and all: unbiased, and never negative, since it is a sum of mean squares
    with coefficients of 0 or more. (With 0 for each that is negative it would be too large.)"""
    total, largest = sum(components.values()), np.max(np.abs(list(components.values())), axis=0)
    return np.where(total > ROUNDING * largest, total, 0.0)


def _remaining_variance(components: dict, fixed: Term) -> np.ndarray:
    """The variance without that of the fixed factors and their interactions with each other."""
    total = _total(components)
    removed = sum(part for term, part in components.items() if set(term) <= set(fixed))
    left = np.clip(total - removed, 0, total)
    return np.where(left > ROUNDING * total, left, 0.0)


def _ratio(found: Decomposition, fixed: Term, beside: Term) -> tuple[float, float, float]:
    """Ratio of what is left with ``fixed`` to that with ``beside`` fixed, as standard deviations,
    with its interval."""
    one, other = (_remaining_variance(found.estimate, names) for names in (fixed, beside))
    one_draws, other_draws = (_remaining_variance(found.draws, names) for names in (fixed, beside))
    if not other:
        return _NONE
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = np.where(one_draws == other_draws, 1.0, np.sqrt(one_draws / other_draws))
    return ((one / other) ** 0.5, *_interval(drawn))


def _interval(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
