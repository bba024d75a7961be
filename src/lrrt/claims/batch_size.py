"""What a larger batch does to the suggested LR and to the curve."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from lrrt.analysis.statistics import common_slope, decades, running_median
from lrrt.claims import claim, margins
from lrrt.claims.shape import level
from lrrt.claims.study import Study, Trace
from lrrt.claims.verdict import (
    Assessed,
    Effect,
    Grade,
    Result,
    Verdict,
    combine,
    judge,
    not_run,
    t_effect,
    with_grade,
)
from lrrt.core.smoothing import ema

EQUAL_STEPS, ONE_EPOCH = "batch_size", "batch_size_epoch"
PARTS = {EQUAL_STEPS: "equal steps", ONE_EPOCH: "one epoch each"}
NEEDED = "a sweep over batch sizes with equally many steps (batch_size)"

Group = tuple[np.ndarray, np.ndarray]


def slope_effect(quantity: str, groups: list[list[Group]], unit: str, smallest: float) -> Effect:
    """The slope that all groups share (:func:`.statistics.common_slope`), each with an intercept of
    its own; ``groups``: by unit, its groups."""
    fit = common_slope([group for unit_ in groups for group in unit_])
    if fit is None:
        return Effect(quantity, *[math.nan] * 3, unit, smallest)
    slope, (low, high), n = fit
    used = sum(len(np.unique(x[np.isfinite(y)])) > 1 for unit_ in groups for x, y in unit_)
    freedom = n - used - 1
    half = t_effect(quantity, 0.0, 1.0, freedom, unit, smallest).high
    return t_effect(quantity, slope, (high - low) / 2 / half, freedom, unit, smallest)


@claim(
    14,
    "Larger batch, higher LR",
    "For a larger batch size, a higher LR should be picked.",
)
def larger_batch(studies: Sequence[Study]) -> Verdict:
    """Slope of log10 max LR against log10 batch size with equally many steps, each set of seeds of
    each protocol with its own intercept, all scales pooled: supported if the interval lies above 0
    and the slope is {DECADES:g} or more; contradicted if below 0. 1 is linear scaling, 0.5
    square-root scaling. (One epoch each would count steps: 781 at batch size 64, 24 at 2048.)"""
    pooled: dict[tuple, list[Group]] = {}
    alone, runs = [], 0
    for study in studies:
        found: dict[tuple, list[Group]] = {}
        for case in study.home_cases(EQUAL_STEPS):
            rows = study.both_lrs(EQUAL_STEPS, case)
            for seed, mine in rows.groupby("weights_seed"):
                group = np.log10(mine["batch_size"].to_numpy(np.float64)), decades(mine["max_lr"])
                if mine["batch_size"].nunique() > 1:
                    found.setdefault((study.scale, seed), []).append(group)
        if found:
            count = sum(len(x) for groups in found.values() for x, _ in groups)
            runs += count
            pooled |= found
            if len(studies) > 1:
                alone.append(_larger("one scale", [study.scale], found, count))
    if not pooled:
        return not_run(NEEDED)
    scales = list(dict.fromkeys(key[0] for key in pooled))
    together = _larger("all scales", scales, pooled, runs)
    return Verdict(
        together.grade,
        (together, *alone),
        "Ten times the batch multiplies max LR by {fold}: " + _scalings(together.effect) + ".",
        missing=together.missing,
    )


def _larger(part: str, scales: list, units: dict, runs: int) -> Result:
    quantity = "decades of max LR per decade of batch size"
    return judge(
        part,
        scales,
        "ten times the batch multiplies max LR by {fold} ({runs} runs, {units} sets of weights).",
        {key: (key[0], groups) for key, groups in units.items()},
        lambda found: with_grade(_pooled_slope(quantity, found)),
        runs=runs,
        missing="16 sets of weights at batch sizes 64 and 2048 with equal steps",
    )


def _pooled_slope(quantity: str, found: list[tuple]) -> Effect:
    """Of the units' (scale, groups): a slope by scale, and their mean by inverse variances."""
    by_scale: dict = {}
    for scale, groups in found:
        by_scale.setdefault(scale, []).append(groups)
    kind = quantity, "decades", margins.DECADES
    effects = [slope_effect(quantity, groups, *kind[1:]) for groups in by_scale.values()]
    if len(effects) == 1:
        return effects[0]
    z = stats.norm.ppf((1 + margins.CONFIDENCE) / 2)
    known = [e for e in effects if e.high > e.low]
    errors = np.array([e.error for e in known])
    if not len(known):
        return Effect(quantity, *[math.nan] * 3, *kind[1:])
    error = float((1 / errors**2).sum() ** -0.5)
    value = float((np.array([e.value for e in known]) / errors**2).sum() * error**2)
    p = float(2 * stats.norm.sf(abs(value) / error))
    inside = float(stats.norm.sf((margins.DECADES - abs(value)) / error))
    low, high = value - z * error, value + z * error
    return Effect(quantity, value, low, high, *kind[1:], 0.0, p, inside, error)


def _scalings(effect: Effect) -> str:
    fits = {
        name: effect.low <= value <= effect.high
        for name, value in (("square-root", 0.5), ("linear", 1.0))
    }
    inside = [name for name, fit in fits.items() if fit]
    outside = [name for name, fit in fits.items() if not fit]
    words = [f"{' and '.join(inside)} scaling fits"] if inside else []
    words += [f"{' and '.join(outside)} scaling does not"] if outside else []
    return ", ".join(words)


@claim(
    15,
    "Flatter with larger batches only by the smoothing",
    "That the loss falls less with larger batches is only an effect of the smoothing.",
)
def flattening(studies: Sequence[Study]) -> Verdict:
    """The fall of a curve is 1 - lowest / level, level being the median over the first tenth of the
    steps; of the smoothed loss and of the raw one (running median over half a decade of LR), over
    one epoch each; slopes against log10 batch size with an intercept per set of seeds. If the
    smoothed curve flattens: contradicted if the raw one's slope is no smaller, supported if its
    interval holds 0, partly if it excludes 0 but is the smaller one. With equally many steps it is
    shown whether anything flattens at all."""
    results = []
    for study in studies:
        for sweep in (ONE_EPOCH, EQUAL_STEPS):
            traces = [t for t in study.traces(sweep) if math.isfinite(level(t))]
            units: dict[int, list[Trace]] = {}
            for trace in traces:
                units.setdefault(trace.weights_seed, []).append(trace)
            if len({t.batch_size for t in traces}) > 1:
                results.append(_flattens(study, sweep, units, len(traces)))
    if not results:
        return not_run("a sweep over batch sizes of one epoch each (batch_size_epoch)")
    main = [r for r in results if r.part == PARTS[ONE_EPOCH]] or results
    others = [r for r in results if r not in main]
    return Verdict(
        combine(main, "").grade,
        (*main, *others),
        "Over one epoch the raw loss, too, falls less with larger batches: by {effect} of the "
        "level with ten times the batch, {share} of the smoothed loss's change."
        if main[0].part == PARTS[ONE_EPOCH] and main[0].grade is Grade.PARTLY
        else "With ten times the batch the fall of the raw loss changes by {effect} of the level.",
        missing=main[0].missing,
    )


def _half_decade(trace: Trace) -> int:
    """The odd number of steps nearest to half a decade of LR."""
    lrs = trace.trained_lr
    steps = len(lrs) / max(math.log10(lrs[-1] / lrs[0]), 1e-9) / 2
    return 2 * round((min(steps, len(lrs)) - 1) / 2) + 1


def _lowest(loss: np.ndarray) -> float:
    return float(np.where(np.isfinite(loss), loss, np.inf).min())


def _flattens(study: Study, sweep: str, units: dict[int, list[Trace]], runs: int) -> Result:
    def falls(traces: list[Trace], lowest: Callable[[Trace], float]) -> list[Group]:
        groups: dict[tuple, list[tuple[float, float]]] = {}
        for t in traces:
            point = math.log10(t.batch_size), 1 - lowest(t) / level(t)
            groups.setdefault((t.case, t.order_seed), []).append(point)
        return [tuple(np.array(points).T) for points in groups.values()]

    by_seed = {
        seed: (
            falls(traces, lambda t: _lowest(ema(t.raw_loss))),
            falls(traces, lambda t: _lowest(running_median(t.raw_loss, _half_decade(t)))),
        )
        for seed, traces in units.items()
    }
    quantity = "change of the fall with ten times the batch, as a share of the level"

    def assess(found: list) -> Assessed:
        smoothed, raw = (
            slope_effect(quantity, [pair[side] for pair in found], "change", 0.0) for side in (0, 1)
        )
        if not smoothed.high < 0:
            return raw, Grade.OPEN
        if raw.high < 0:
            return raw, Grade.PARTLY if raw.value > smoothed.value else Grade.CONTRADICTED
        return raw, Grade.SUPPORTED if math.isfinite(raw.high) else Grade.OPEN

    smoothed = slope_effect(quantity, [pair[0] for pair in by_seed.values()], "change", 0.0)
    raw = slope_effect(quantity, [pair[1] for pair in by_seed.values()], "change", 0.0)
    return judge(
        PARTS[sweep],
        [study.scale],
        "with ten times the batch the fall of the raw loss changes by {effect} of the level, that "
        f"of the smoothed loss by {100 * smoothed.value:+.0f} %"
        + ("." if smoothed.high < 0 else ": nothing flattens, so there is nothing to explain."),
        by_seed,
        assess,
        runs=runs,
        missing="14 more range tests" if smoothed.high < 0 else "",
        share=f"{100 * raw.value / smoothed.value:.0f} %" if smoothed.high < 0 else "",
    )
