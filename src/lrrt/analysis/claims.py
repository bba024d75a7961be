"""The post's claims, each held against a study's runs.

One function, one claim; its docstring is the rule that decides. (The log of this file says which
rules were mended when runs had been seen.) All intervals are 95 %. A *home case* is a protocol on
the backend that the post ran it on; a *share* is judged by its exact interval against one half.
Where a study lacks the runs that a claim needs, it is undecided, and the evidence says what is
missing.
"""

import inspect
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lrrt.analysis.evidence import (
    DOES_NOT_HOLD,
    HOLDS,
    STEEPEST,
    UNDECIDED,
    Case,
    Finding,
    Study,
    Trace,
    beside,
    case_name,
    counted,
    gained,
    number,
)
from lrrt.analysis.published import KERAS_MAX_LR, RUNS, USUAL_LR, VALIDATION_COST, published
from lrrt.analysis.ranges import with_range
from lrrt.analysis.statistics import (
    MINIMUM_RUNS,
    bootstrap_interval,
    common_slope,
    log_quantiles,
    median_interval,
    running_median,
    share_interval,
)
from lrrt.core.smoothing import ema
from lrrt.experiments.sweep.dispersion import batch_size_slopes, by_seed, published_comparison
from lrrt.experiments.transfer.tables import HARMED, LAGGING, OUTCOMES
from lrrt.runs.specify import device_and_precision

KERAS, FASTAI = ("keras", "blog_keras"), ("torch", "blog_fastai")

PLATEAU_TOLERANCE = 0.10  # of the level: what counts as flat
DESCENT_SHARE = 0.10  # of the level: what counts as a fall
RISE = 0.10  # above the lowest raw loss: what counts as risen
NOTHING_ADDED = 1.1 / 2.1  # v / (v + u) if v = 1.1 u: weights that add less do not matter
UNSTEADY = 2  # times of runs that are alike, 90 % quantile over 10 %
IMPRACTICAL = 10.0  # times as long
MOSTLY_HARMLESS = (1 / 10, 1 / 3)  # share harmed: refuted above the first, shown below the second
LESS_DEPENDENCE = 0.9  # of that of a constant LR
ALL_OVERLAP_RUNS = 10  # runs of which no two are disjoint refute that any are

CLAIMS: list[tuple[str, Callable[[Study], Finding]]] = []


def claim(text: str) -> Callable[[Callable[[Study], Finding]], Callable[[Study], Finding]]:
    """Enter a function under the claim that it judges; the order is that of this file."""

    def enter(function: Callable[[Study], Finding]) -> Callable[[Study], Finding]:
        CLAIMS.append((text, function))
        return function

    return enter


def claims(study: Study) -> list[dict[str, Any]]:
    """Judge every claim on one study.

    Returns
    -------
    list of dict
        ``claim``, ``evidence`` (sentences with numbers and n), ``verdict`` (``holds``, ``does not
        hold`` or ``undecided``), ``interval`` ([low, high] or None); JSON values only.
    """
    judged = []
    for text, function in CLAIMS:
        evidence, verdict, interval = function(study)
        known = interval is not None and all(map(math.isfinite, interval))
        interval = [float(end) for end in interval] if known else None
        judged.append(
            {"claim": text, "evidence": evidence, "verdict": verdict, "interval": interval}
        )
    return judged


def decision_rules() -> dict[str, str]:
    """By claim, the rule that decides it: its function's docstring, with the constants put in."""
    return {
        text: " ".join(inspect.getdoc(function).format_map(globals()).split())
        for text, function in CLAIMS
    }


def _worst_share(found: Mapping[Case, list[bool]]) -> tuple[str, tuple[float, float] | None]:
    """Verdict on a share that must exceed one half in every case; the interval of the lowest."""
    judged = _judged(found)
    if not judged:
        return UNDECIDED, None
    intervals, verdicts = zip(*judged.values(), strict=True)
    overall = next((v for v in (DOES_NOT_HOLD, UNDECIDED) if v in verdicts), HOLDS)
    return overall, min(intervals)


def _judged(found: Mapping[Case, list[bool]]) -> dict[Case, tuple[tuple[float, float], str]]:
    """Of each case with runs the interval of its share, and whether that exceeds one half."""
    intervals = {case: share_interval(sum(r), len(r)) for case, r in found.items() if r}
    return {case: (interval, beside(interval, 0.5)) for case, interval in intervals.items()}


def _listed(found: Mapping[Case, list[bool]]) -> str:
    """How many of each case, and each one's own verdict where these differ."""
    verdicts = {case: verdict for case, (_, verdict) in _judged(found).items()}
    own = verdicts if len(set(verdicts.values())) > 1 else {}
    return "; ".join(
        f"{case_name(case)}: {sum(runs)} of {len(runs)}{f' ({own[case]})' if case in own else ''}"
        for case, runs in found.items()
    )


def _level(trace: Trace) -> float:
    """The loss before anything happens: median over the first tenth of the steps."""
    return float(np.median(trace.steady[: _tenth(trace)]))


def _lowest(loss: np.ndarray) -> float:
    return float(np.where(np.isfinite(loss), loss, np.inf).min())


def _half_decade(trace: Trace) -> int:
    """The odd number of steps nearest to half a decade of LR."""
    steps = (
        len(trace.trained_lr)
        / max(math.log10(trace.trained_lr[-1] / trace.trained_lr[0]), 1e-9)
        / 2
    )
    return 2 * round((min(steps, len(trace.trained_lr)) - 1) / 2) + 1


def _tenth(trace: Trace) -> int:
    return max(3, len(trace.trained_lr) // 10)


MISSING_RUNS = Finding("No weights sweep of a home case with suggestions.", UNDECIDED)


@claim("The loss starts with a plateau, descends to a minimum and finally explodes.")
def typical_shape(study: Study) -> Finding:
    """Holds if in every home case most range tests of the weights sweep show all three in the raw
    loss (running median of five): over the first tenth of the steps it stays within
    {PLATEAU_TOLERANCE:.0%} of its median there, the level; its minimum lies at least
    {DESCENT_SHARE:.0%} below the level; after that it rises
    above the level, or is not finite. Most: the interval of the share lies above one half; does
    not hold if it lies below in a case."""
    found: dict[Case, list[bool]] = defaultdict(list)
    seen = np.zeros(3, dtype=int)
    for trace in study.traces("weights"):
        steady, level = trace.steady, _level(trace)
        start, lowest = steady[: _tenth(trace)], int(np.argmin(steady))
        three = np.array(
            [
                np.abs(start - level).max() <= PLATEAU_TOLERANCE * level,
                steady[lowest] <= (1 - DESCENT_SHARE) * level,
                steady[lowest:].max() > level,
            ]
        )
        seen += three
        found[trace.case].append(bool(three.all()))
    if not found:
        return MISSING_RUNS
    verdict, interval = _worst_share(found)
    return Finding(
        f"Plateau, descent and explosion, all three, in {_listed(found)} range tests; of all "
        f"{sum(map(len, found.values()))}, {seen[0]} have a plateau, {seen[1]} a "
        f"descent, {seen[2]} an explosion. Interval: the share, in the case where it is lowest.",
        verdict,
        interval,
    )


@claim(
    "With new weights or batch order each run, the suggested ranges have the published medians: "
    "about (0.1, 2) in Keras, (5e-4, 0.4) in fastai."
)
def published_medians(study: Study) -> Finding:
    """Holds if all our medians lie inside the published 10-90 % bars (seven of the eight published
    medians have one), each from at least {MINIMUM_RUNS} runs at the post's scale (ResNet-56,
    CIFAR-10, batch 512). Does not hold if one of the weights sweep lies outside with its whole
    interval. Undecided otherwise; one of the order sweep, too, since that is of one set of weights,
    the post's and ours, and the interval does not say what others would give."""
    table = published_comparison(
        study.suggestions, study.config.protocols, study.config.report.bootstrap_resamples
    )
    barred = table[table["inside"].notna()]
    wanted = int(published()["q10"].notna().sum())
    inside = int(barred["inside"].astype(bool).sum())
    parts = [
        f"{row.backend} {row.sweep} {row.quantity} {number(row.median)} against "
        f"{number(row.published_median)} (n = {row.n - row.abstained})"
        for row in table.itertuples()
    ]
    evidence = (
        f"{inside} of {len(barred)} medians lie inside the published bars (n = {RUNS}; {wanted} "
        f"bars were published); {study.scale}: {'; '.join(parts) or 'no runs'}."
    )
    if not study.at_the_posts_scale:
        return Finding(f"{evidence} Not the post's scale.", UNDECIDED)
    enough = ((barred["n"] - barred["abstained"]) >= MINIMUM_RUNS).all()
    apart = barred["sweep"].eq("weights") & (
        (barred["median_high"] < barred["published_q10"])
        | (barred["median_low"] > barred["published_q90"])
    )
    if not enough or not len(barred):
        return Finding(f"{evidence} At least {MINIMUM_RUNS} runs each are needed.", UNDECIDED)
    if apart.any():
        return Finding(f"{evidence} {int(apart.sum())} outside with its interval.", DOES_NOT_HOLD)
    complete = len(barred) == wanted and inside == wanted
    return Finding(evidence, HOLDS if complete else UNDECIDED)


@claim("The minimum LR that the finder recommends is where the loss descends fastest.")
def steepest_descent(study: Study) -> Finding:
    """Holds if in every home case the interval of the share of weights-sweep runs whose minimum LR
    is within a step of the steepest descent of the smoothed curve lies above one half; does not
    hold if it lies below in a case. (The fastai rule's is that by definition; the Keras rule looks
    in the last unbroken descent only, and falls back to a tenth of the maximum.)"""
    steepest = _steepest(study)
    found: dict[Case, list[bool]] = defaultdict(list)
    fell = below = 0
    for trace, row in _with_both_lrs(study):
        there = float(steepest.get((*trace.case, "weights", trace.run), math.nan))
        own, other = (int(np.abs(trace.lr - lr).argmin()) for lr in (row["min_lr"], there))
        found[trace.case].append(math.isfinite(there) and abs(own - other) <= 1)
        fell, below = fell + bool(row["fallback"]), below + (row["min_lr"] < row["max_lr"])
    if not found:
        return MISSING_RUNS
    verdict, interval = _worst_share(found)
    total = sum(map(len, found.values()))
    return Finding(
        f"The minimum is the curve's steepest descent in {_listed(found)} runs. In {fell} of "
        f"{total} it is the rule's silent fallback, a tenth of the maximum; it is below the "
        f"maximum in {below}. Interval: the share, in the case where it is lowest.",
        verdict,
        interval,
    )


@claim(
    "The maximum LR is a tenth of the LR at the minimum of the smoothed loss, since at that "
    "minimum itself the LR is too large."
)
def minimum_over_ten(study: Study) -> Finding:
    """Judged on the raw loss (running median of five, which does not lag). Dividing by ten is right
    for a run where the LR at the raw minimum lies between the maximum LR and ten times it: the
    smoothed minimum is past it, a tenth is not. Holds if in every home case the interval of the
    share of such weights-sweep runs lies above one half; does not hold if it lies below in a
    case."""
    found: dict[Case, list[bool]] = defaultdict(list)
    past, over, lags = 0, 0, []
    for trace, row in _with_both_lrs(study):
        lowest, maximum = trace.trained_lr[int(np.argmin(trace.steady))], row["max_lr"]
        needed, enough = bool(lowest < 10 * maximum), bool(maximum <= lowest)
        found[trace.case].append(needed and enough)
        past, over = past + needed, over + (not enough)
        lags.append(math.log10(10 * maximum / lowest))
    if not found:
        return MISSING_RUNS
    verdict, interval = _worst_share(found)
    return Finding(
        f"A tenth is right in {_listed(found)} runs. The smoothed minimum lies past the raw one "
        f"in {past} of {len(lags)}, by {number(float(np.median(lags)))} decades in the median; "
        f"after division the maximum is still past it in {over}. Interval: the share, in the case "
        "where it is lowest.",
        verdict,
        interval,
    )


def _with_both_lrs(study: Study) -> list[tuple[Trace, pd.Series]]:
    """The weights-sweep traces whose own rule suggests both LRs, with that suggestion."""
    found = []
    for case in study.home_cases():
        rows = study.both_lrs("weights", case).set_index("run")
        traces = study.traces("weights", case)
        found += [(trace, rows.loc[trace.run]) for trace in traces if trace.run in rows.index]
    return found


@claim("The suggested range changes with the initial weights.")
def weights_change_suggestion(study: Study) -> Finding:
    """Judged by the variance of log10 maximum LR in the weights sweep (new weights, new order), v,
    and in the order sweep (same weights, new order), u, each summed over the home cases with at
    least {MINIMUM_RUNS} runs in both: v / (v + u) is one half if the weights add nothing to what
    batch order does alone. Holds if its interval, by resampling runs, lies above one half, and
    still without the run of each sample that is furthest from its median; does not hold if it lies
    below {NOTHING_ADDED:.3f}, where the weights would add a tenth to the variance. (u is of one set
    of weights, and others have others.) What the same weights leave of the spread in the crossed
    design, which has several, is shown beside it."""
    samples, parts = [], []
    for case in study.home_cases("order"):
        both = [
            np.log10(study.both_lrs(sweep, case)["max_lr"].to_numpy(np.float64))
            for sweep in ("weights", "order")
        ]
        new, same = ("–" if len(s) < 2 else f"{np.std(s, ddof=1):.2f}" for s in both)
        parts.append(
            f"{case_name(case)}: {new} decades (n = {len(both[0])}) with new weights, {same} "
            f"(n = {len(both[1])}) with the same"
        )
        if min(map(len, both)) >= MINIMUM_RUNS:
            samples += both
    evidence = f"Standard deviation of log10 maximum LR, {'; '.join(parts) or 'no order sweep'}."
    if not samples:
        return Finding(f"{evidence} At least {MINIMUM_RUNS} runs each are needed.", UNDECIDED)

    def share(*groups: np.ndarray, axis: int = -1) -> np.ndarray:
        variances = [np.var(group, axis=axis, ddof=1) for group in groups]
        new, same = sum(variances[::2]), sum(variances[1::2])
        return np.where(new + same > 0, new / np.maximum(new + same, 1e-300), 0.5)

    resamples = study.config.report.bootstrap_resamples
    interval = bootstrap_interval(samples, share, resamples=resamples)
    inner = [np.delete(s, np.abs(s - np.median(s)).argmax()) for s in samples]
    low, high = bootstrap_interval(inner, share, resamples=resamples)
    verdict = DOES_NOT_HOLD if interval[1] < NOTHING_ADDED else UNDECIDED
    if min(low, interval[0]) > 0.5:
        verdict = HOLDS
    return Finding(
        f"{evidence} New weights have {float(share(*samples)):.0%} of both variances together "
        "(interval), 50% if they added nothing; without the run furthest from the median of each "
        f"sample {float(share(*inner)):.0%} [{low:.0%}, {high:.0%}]. The order sweep is of one set "
        f"of weights.{_crossed(study)}",
        verdict,
        interval,
    )


def _crossed(study: Study) -> str:
    """What the same weights leave of the spread in the crossed design, as a sentence."""
    rows = study.variance_spread.query("fixed == 'weights' and quantity == 'max_lr'")
    parts = [
        f"{case_name((row.backend, row.protocol))} {row.ratio:.2f} [{row.low:.2f}, {row.high:.2f}]"
        f" (n = {row.n})"
        for row in rows[np.isfinite(rows["ratio"])].itertuples()
    ]
    if not parts:
        return ""
    return (
        f" Crossed design, {study.scale_of(study.config.variance)}: the same weights leave "
        f"{'; '.join(parts)} of its spread."
    )


@claim("Two initialisations A and B can have suggested ranges that do not overlap.")
def disjoint_ranges(study: Study) -> Finding:
    """Holds if two runs of the weights sweep of a home case have disjoint ranges. Does not hold if
    no two do among at least {ALL_OVERLAP_RUNS} runs of each home case. The interval is of the share
    of disjoint pairs, by resampling runs (pairs share runs)."""
    gaps, parts, fallbacks = [], [], []
    for case in study.home_cases():
        apart = study.disjoint(case)
        if len(apart) >= 2:
            gaps.append(apart)
            pairs = math.comb(len(apart), 2)
            parts.append(f"{case_name(case)}: {apart.sum() // 2} of {pairs} pairs of {len(apart)}")
            fallbacks += owed_to_fallbacks(study, case, apart)
    if not gaps:
        return MISSING_RUNS

    def share(*picked: np.ndarray) -> float:
        apart = pairs = 0
        for matrix, runs in zip(gaps, picked, strict=True):
            different = runs[:, None] != runs[None, :]  # a run drawn twice is no pair
            apart += matrix[np.ix_(runs, runs)].sum()
            pairs += different.sum()
        return apart / pairs if pairs else math.nan

    found = any(matrix.any() for matrix in gaps)
    enough = all(len(matrix) >= ALL_OVERLAP_RUNS for matrix in gaps)
    interval = None  # of none disjoint, resampling would make a share of exactly 0
    if found and all(len(matrix) >= MINIMUM_RUNS for matrix in gaps):
        runs = [np.arange(len(matrix)) for matrix in gaps]
        resamples = study.config.report.bootstrap_resamples
        interval = bootstrap_interval(runs, share, resamples=resamples, vectorized=False)
    verdict = HOLDS if found else DOES_NOT_HOLD if enough else UNDECIDED
    missing = "" if found or enough else f" At least {ALL_OVERLAP_RUNS} runs are needed to deny it."
    evidence = f"Disjoint ranges, {'; '.join(parts)} runs.{''.join(fallbacks)}{missing}"
    return Finding(evidence, verdict, interval)


def owed_to_fallbacks(study: Study, case: Case, apart: np.ndarray) -> list[str]:
    """How many of a case's disjoint pairs have a min LR that is only a tenth of the maximum, and
    how many are disjoint with the steepest descent in its place, as a sentence; if any."""
    rows = with_range(study.suggested("weights", case))
    fell = rows["fallback"].to_numpy(bool)
    owed = int((apart & (fell[:, None] | fell)).sum()) // 2
    if not owed:
        return []
    steepest = _steepest(study).loc[(*case, "weights")].reindex(rows["run"]).to_numpy(np.float64)
    low, high = np.where(fell, steepest, rows["min_lr"]), rows["max_lr"].to_numpy(np.float64)
    ordered = (low <= high) & (low <= high)[:, None]
    left = int((ordered & (low[:, None] > high)).sum())
    lost = int((apart & ~ordered).sum()) // 2
    none = f", and {lost} have a run whose minimum is then above its maximum" if lost else ""
    return [
        f" In {owed} of the {apart.sum() // 2} a minimum is the rule's silent fallback, a tenth of "
        f"the maximum: with the curve's steepest descent in its place, {left} are disjoint{none}."
    ]


def _steepest(study: Study) -> pd.Series:
    """LR of the steepest descent of the smoothed curve, by backend, protocol, sweep and run."""
    rows = study.suggestions[study.suggestions["rule"] == STEEPEST]
    return rows.set_index(["backend", "protocol", "sweep", "run"])["min_lr"]


@claim("Training model B at A's maximum LR makes it diverge or overfit.")
def transfer_harms(study: Study) -> Finding:
    """Over all pairs with disjoint ranges: holds if the interval of the share of trainings of
    weights B at A's maximum LR that diverge or overfit lies above one half; does not hold if it
    lies below, those that lag included. (Outcomes by the definitions of the divergence stage. No
    run is in two pairs; the pairs are those furthest apart, not a sample of all.)"""
    disjoint = _disjoint_pairs(study)
    transfers = study.cells(weights="B", lr_of="A", lr_kind="max")
    cells = transfers[transfers["pair"].isin(disjoint)]
    if not len(cells):
        others = counted(transfers["outcome"], OUTCOMES)
        return Finding(
            "No pair with disjoint ranges was trained; weights B at A's maximum LR of pairs that "
            f"overlap: {others}.",
            UNDECIDED,
        )
    control = study.cells(weights="B", lr_of="B", lr_kind="max")
    control = control[control["pair"].isin(disjoint)]
    harmed = int(cells["outcome"].isin(HARMED).sum())
    lagging = int(cells["outcome"].eq("lags").sum())
    interval = share_interval(harmed, len(cells))
    low, high = interval[0], share_interval(harmed + lagging, len(cells))[1]
    verdict = beside((low, high), 0.5)
    missing = " More pairs are needed." if verdict == UNDECIDED else ""
    missing += f" {LAGGING}" if lagging else ""
    native = study.cells(weights="A", lr_of="A", lr_kind="max")
    native = native[native["pair"].isin(disjoint)]
    itself = f"; weights A at it: {counted(native['compared_outcome'], OUTCOMES)}"
    weights = cells["weights_seed"].nunique()
    shared = f" (of {weights} initial weights B)" if weights < len(cells) else ""
    both = pd.concat([cells, control])
    epochs = f" after {both['compared_epochs'].iloc[0]} epochs"
    early = f"{epochs} {counted(cells['compared_outcome'], OUTCOMES)}, and"
    return Finding(
        f"Of {len(cells)} {'pairs' if len(cells) > 1 else 'pair'} with disjoint ranges{shared}, "
        f"weights B at A's maximum LR: after {cells['epochs'].iloc[0]} epochs "
        f"{counted(cells['outcome'], OUTCOMES)};{early if both['epochs'].nunique() > 1 else ''} at "
        f"B's own maximum: {counted(control['compared_outcome'], OUTCOMES)}"
        f"{itself if len(native) else ''}. Interval: the share "
        f"that diverges or overfits.{missing}",
        verdict,
        interval,
    )


def _disjoint_pairs(study: Study) -> list[str]:
    return [name for name, pair in study.pairs_by_name.items() if pair["disjoint"]]


@claim("Use the same initial weights for the finder and for the training that follows.")
def same_weights(study: Study) -> Finding:
    """Over all pairs of which both weights, A and B, were trained at both maximum LRs: what their
    own gains them in validation accuracy, (A at A's - A at B's) + (B at B's - B at A's), after
    equally many epochs (0 for a training that stopped). Holds if the interval of the share of pairs
    for which that is above 0 (ties left out) lies above one half; does not hold if below. A's
    maximum is the higher one, so that weights B alone would tell a low LR from a high one; in the
    sum that cancels. (Own is the batch order, too, with which a range test and its training begin.)
    """
    swapped = study.swapped
    one_sided = study.cells(lr_kind="max")["pair"].nunique() - len(swapped)
    better, total = int((swapped["own"] > 0).sum()), int((swapped["own"] != 0).sum())
    lower = int((swapped["AB"] > swapped["AA"]).sum())
    spreads = []
    for case in study.home_cases("order"):
        rows = study.both_lrs("order", case)
        if len(rows) > 1:
            low, high = log_quantiles(rows["max_lr"], (0.1, 0.9))
            spreads.append(f"{number(high / low)}-fold for {case_name(case)} (n = {len(rows)})")
    order = (
        f" It may not be enough: with the same weights, batch order alone spreads the maximum LR "
        f"(10 % to 90 %) {', '.join(spreads)}."
        if spreads
        else ""
    )
    only_b = f" (Pairs of which only weights B were trained: {one_sided}.)" if one_sided else ""
    if not total:
        none = (
            f"In all {len(swapped)} pairs both weights do as well at each other's maximum LR."
            if len(swapped)
            else "Of no pair were both weights trained at both maximum LRs."
        )
        return Finding(f"{none}{only_b}{order}", UNDECIDED)
    interval = share_interval(better, total)
    verdict = beside(interval, 0.5)
    missing = " More pairs are needed." if verdict == UNDECIDED else ""
    return Finding(
        f"Both weights of {len(swapped)} pairs were trained at both maximum LRs, A's being the "
        f"higher. Their own gain {gained(swapped['own'])} of validation accuracy over each other's "
        f"and are the better in {better} of {total}; B's gain {gained(swapped['lower'])} over A's "
        f"and are the better for weights A in {lower} of {len(swapped)}.{only_b}{order} Interval: "
        f"the share of pairs.{missing}",
        verdict,
        interval,
    )


@claim("The current PyTorch (fastai) finder suggests lower LRs than the Keras one.")
def torch_is_lower(study: Study) -> Finding:
    """Between the weights sweeps of (torch, blog_fastai) and (keras, blog_keras): holds if for the
    minimum and for the maximum LR a two-sided Mann-Whitney test gives p < 0.05 and fastai's is the
    lower; does not hold if for one of them it gives p < 0.05 and fastai's is the higher. The
    interval is of the ratio of the median maximum LRs, fastai's over Keras's, by resampling runs in
    log10, from at least {MINIMUM_RUNS} runs of each."""
    ours, theirs = study.both_lrs("weights", FASTAI), study.both_lrs("weights", KERAS)
    if min(len(ours), len(theirs)) < 2:
        return Finding("Weights sweeps of both home cases are needed.", UNDECIDED)

    results, parts = {}, []
    for quantity in ("min_lr", "max_lr"):
        x, y = (np.log10(rows[quantity].to_numpy(np.float64)) for rows in (ours, theirs))
        test = stats.mannwhitneyu(x, y)
        chance, p = 1 - float(test.statistic) / (len(x) * len(y)), float(test.pvalue)
        results[quantity] = chance, p, x, y
        parts.append(
            f"{quantity}: medians {number(10 ** np.median(x))} and {number(10 ** np.median(y))}, "
            f"lower in {chance:.0%} of pairs of runs (p = {p:.2g})"
        )
    decided = {chance > 0.5 for chance, p, *_ in results.values() if p < 0.05}
    sure = all(p < 0.05 for _, p, *_ in results.values())
    verdict = DOES_NOT_HOLD if False in decided else HOLDS if sure else UNDECIDED

    def difference(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.median(x, axis=axis) - np.median(y, axis=axis)

    decades = bootstrap_interval(
        results["max_lr"][2:], difference, resamples=study.config.report.bootstrap_resamples
    )
    enough = min(len(ours), len(theirs)) >= MINIMUM_RUNS
    interval = (10 ** decades[0], 10 ** decades[1]) if enough else None
    crossed = []
    for case in ((FASTAI[0], KERAS[1]), (KERAS[0], FASTAI[1])):
        rows = study.both_lrs("weights", case)
        if len(rows):
            low, high = (number(log_quantiles(rows[q], [0.5])[0]) for q in ("min_lr", "max_lr"))
            crossed.append(f"{case_name(case)} ({low}, {high}), n = {len(rows)}")
    tail = f" Crossed, which tells protocol from framework: {'; '.join(crossed)}."
    tail += " (Unpaired; the framework figure pairs runs of equal seeds.)"
    return Finding(
        f"fastai (n = {len(ours)}) beside Keras (n = {len(theirs)}), {'; '.join(parts)}."
        f"{tail if crossed else ''} Interval: ratio of the median maximum LRs.",
        verdict,
        interval,
    )


@claim("The finder recommends a maximum LR of 2.0, where the usual value is around 0.1.")
def two_against_a_tenth(study: Study) -> Finding:
    """At the post's scale, from at least {MINIMUM_RUNS} runs of (keras, blog_keras): holds if the
    interval of the median maximum LR of the weights sweep lies above {USUAL_LR}; does not hold if
    below."""
    values = study.both_lrs("weights", KERAS)["max_lr"]
    if not len(values):
        return Finding("A weights sweep of keras with blog_keras is needed.", UNDECIDED)
    interval = median_interval(values, study.config.report.bootstrap_resamples)
    median = float(log_quantiles(values, [0.5])[0])
    evidence = (
        f"Median maximum LR {number(median)} (n = {len(values)}), {number(median / USUAL_LR)} "
        f"times the usual {USUAL_LR}; {study.scale}."
    )
    if len(values) < MINIMUM_RUNS:
        return Finding(f"{evidence} At least {MINIMUM_RUNS} runs are needed.", UNDECIDED)
    contains = "contains" if interval[0] <= KERAS_MAX_LR <= interval[1] else "does not contain"
    evidence += f" Its interval {contains} {KERAS_MAX_LR}."
    at_reference = study.cells(lr_kind="reference")
    if len(at_reference):
        evidence += f" Trained at the reference LR: {counted(at_reference['outcome'], OUTCOMES)}."
    if not study.at_the_posts_scale:
        return Finding(f"{evidence} Not the post's scale.", UNDECIDED, interval)
    return Finding(evidence, beside(interval, USUAL_LR), interval)


@claim("Seen without smoothing, LRs as large as the suggested maximum are not safe.")
def unsafe_without_smoothing(study: Study) -> Finding:
    """The post says it of Keras's maximum. Unsafe: at the suggested maximum LR the raw loss
    (running median of five) has already risen by {RISE:.0%} from its lowest at smaller LRs. Holds
    if the interval of the share of the weights sweep's runs of (keras, blog_keras) lies above one
    half; does not hold if below. The other home cases, and the same of the validation loss
    (likewise) in the validation sweeps, are shown beside it."""

    def risen(lr: np.ndarray, loss: np.ndarray, maximum: float) -> bool:
        last = max(int(np.searchsorted(lr, maximum * (1 + 1e-9))) - 1, 0)
        loss = np.where(np.isfinite(loss), loss, np.inf)
        return bool(loss[last] > (1 + RISE) * loss[: last + 1].min())

    found: dict[Case, list[bool]] = defaultdict(list)
    for trace, row in _with_both_lrs(study):
        found[trace.case].append(risen(trace.trained_lr, trace.steady, row["max_lr"]))
    if KERAS not in found:
        return Finding("A weights sweep of keras with blog_keras is needed.", UNDECIDED)
    validated = []
    for sweep in ("validation", "validation_batch"):
        traces = [t for t in study.traces(sweep) if t.val_loss is not None]
        maxima = study.own[study.own["sweep"] == sweep].set_index(["backend", "protocol", "run"])
        for trace in traces:
            maximum = float(maxima["max_lr"].get((*trace.case, trace.run), math.nan))
            if math.isfinite(maximum):
                validated.append(risen(trace.trained_lr, running_median(trace.val_loss), maximum))
    beside_it = (
        f"the validation loss has in {sum(validated)} of {len(validated)} validated range tests"
        if validated
        else "no range test was validated"
    )
    verdict, interval = _worst_share({KERAS: found[KERAS]})
    return Finding(
        f"By the suggested maximum LR the raw training loss has risen by {RISE:.0%} from its "
        f"lowest in {_listed(found)} range tests; {beside_it}. Interval: the share of "
        f"{case_name(KERAS)}.",
        verdict,
        interval,
    )


@claim("Validating at every step makes the range test impractical: 33 times as long.")
def validation_cost(study: Study) -> Finding:
    """Ratio of wall-clock times as the runs ran, beside others, start-up included: a validated
    range test over the median of those that do not validate and are alike in backend, protocol,
    batch size, steps, device and precision. At the post's scale, holds if all such ratios are at
    least {IMPRACTICAL:.0f}, does not hold if all are below; undecided otherwise, and without kept
    times. Where those that do not validate are less than two, or spread more than {UNSTEADY}-fold
    (10 to 90 %), the ratio decides nothing. The interval is from the least ratio to the largest, of
    those that decide, if any do. Beside it, from counts of images alone, a training step being
    three times a forward pass."""
    config = study.config
    counted_ratio = 1 + config.data.test_images / (3 * config.sweep.batch_size)
    alike = ["backend", "protocol", "batch_size", "steps", "device", "precision"]
    runs = study.curves.groupby(["run", "backend", "protocol", "sweep", "batch_size"]).size()
    timed = runs.rename("steps").reset_index()
    timed["seconds"] = timed["run"].map(dict(study.seconds)).astype(float)
    sweeps = timed["sweep"].map(config.sweeps)
    places = [
        device_and_precision(config, backend, sweep.devices, sweep.precision)
        for backend, sweep in zip(timed["backend"], sweeps, strict=True)
    ]
    timed[["device", "precision"]] = places
    timed["validated"] = [sweep.validation != "none" for sweep in sweeps]
    timed = timed.dropna(subset=["seconds"]).drop_duplicates(["run", "protocol", "validated"])
    steady, unsteady = [], []
    for _, rows in timed.groupby(alike):
        validated = rows["validated"].astype(bool)
        if not validated.all():
            plain = rows.loc[~validated, "seconds"]
            wide = len(plain) < 2 or plain.quantile(0.9) > UNSTEADY * plain.quantile(0.1)
            ratios = unsteady if wide else steady
            ratios += list(rows.loc[validated, "seconds"] / plain.median())
    count = (
        f"By images, {config.data.test_images} validated after each batch of "
        f"{config.sweep.batch_size}: {number(counted_ratio)} times."
    )
    ratios = steady or unsteady
    if not ratios:
        return Finding(f"No times are kept of range tests with and without. {count}", UNDECIDED)
    low, high = min(ratios), max(ratios)
    verdict = HOLDS if low >= IMPRACTICAL else DOES_NOT_HOLD if high < IMPRACTICAL else UNDECIDED
    evidence = (
        f"{' to '.join(dict.fromkeys(map(number, (low, high))))} times as long (n = {len(ratios)} "
        f"validated range tests); the post: {number(VALIDATION_COST)}. {count}"
    )
    if unsteady:
        evidence += " Like runs took unlike times, some beside more others than the rest"
        evidence += f", in {len(unsteady)} more: that decides nothing." if steady else "."
    if not study.at_the_posts_scale:
        return Finding(f"{evidence} Not the post's scale.", UNDECIDED, (low, high))
    return Finding(evidence, verdict if steady else UNDECIDED, (low, high))


@claim("The minimum LR, at the steepest descent, is safe to train at.")
def minimum_is_safe(study: Study) -> Finding:
    """Over all initial weights (seeds), at least {MINIMUM_RUNS}, that were trained at a minimum LR
    (of A, of B, or both) which is a steepest descent and no rule's fallback: holds if the interval
    of the share of which a training diverges or overfits lies below {MOSTLY_HARMLESS[1]:.0%}; does
    not hold if it lies above {MOSTLY_HARMLESS[0]:.0%}."""
    cells = study.cells(lr_kind="min")
    at_fallback = _at_fallbacks(study, cells)
    fallen = counted(cells.loc[at_fallback, "outcome"], OUTCOMES)
    fallen = f" At one that is a rule's fallback: {fallen}." if at_fallback.any() else ""
    cells = cells[~at_fallback]
    if not len(cells):
        return Finding(f"No training at the steepest descent of a curve.{fallen}", UNDECIDED)
    harmed = cells["outcome"].isin(HARMED).groupby(cells["weights_seed"]).any()
    low, high = share_interval(int(harmed.sum()), len(harmed))
    refuted, shown = MOSTLY_HARMLESS
    verdict = HOLDS if high < shown else DOES_NOT_HOLD if low > refuted else UNDECIDED
    verdict = verdict if len(harmed) >= MINIMUM_RUNS else UNDECIDED
    missing = " More weights are needed." if verdict == UNDECIDED else ""
    return Finding(
        f"Trainings at a minimum LR: {counted(cells['outcome'], OUTCOMES)} (n = {len(cells)}, of "
        f"{len(harmed)} initial weights).{fallen} Interval: the share of weights that diverge or "
        f"overfit.{missing}",
        verdict,
        (low, high),
    )


def _at_fallbacks(study: Study, cells: pd.DataFrame) -> pd.Series:
    """Which trainings are at a minimum LR that its rule did not find in the curve, bool."""
    runs = {
        (name, side): pair[side]["run"]
        for name, pair in study.pairs_by_name.items()
        for side in "AB"
    }
    fell = set(study.own.loc[study.own["fallback"].astype(bool), "run"])
    found = [runs.get(key) in fell for key in zip(cells["pair"], cells["lr_of"], strict=True)]
    return pd.Series(found, index=cells.index, dtype=bool)


@claim("For a larger batch size, a higher LR should be picked.")
def larger_batch(study: Study) -> Finding:
    """Slope of log10 maximum LR against log10 batch size, common to the home cases (each seed of
    each with its own intercept), with a fixed number of steps and over one epoch each: holds if its
    interval lies above 0 in each of these sweeps that there is; does not hold if below in each; the
    interval is the first one's. 1 is linear scaling, 0.5 square-root scaling."""
    fits = {}
    for sweep in ("batch_size", "batch_size_epoch"):
        cases = [study.both_lrs(sweep, case) for case in study.home_cases(sweep)]
        fit = common_slope(group for rows in cases for group in by_seed(rows, "max_lr"))
        if fit is not None:
            fits[sweep] = fit
    if not fits:
        return Finding("A sweep with several batch sizes is needed.", UNDECIDED)
    verdicts = {beside(fit[1], 0.0) for fit in fits.values()}
    verdict = verdicts.pop() if len(verdicts) == 1 else UNDECIDED
    (slope, interval, n), *_ = fits.values()
    scalings = [
        name
        for value, name in ((1.0, "linear"), (0.5, "square-root"))
        if interval[0] <= value <= interval[1]
    ]
    others = [
        f"{row.sweep} {row.backend} {row.quantity} {row.slope:.2f} [{row.low:.2f}, {row.high:.2f}]"
        for row in batch_size_slopes(study.own).itertuples()
        if row.sweep.startswith("batch_size") and (row.backend, row.protocol) in study.home_cases()
    ]
    return Finding(
        f"Slope of the maximum LR {slope:.2f} (n = {n} runs of sweep {next(iter(fits))}); its "
        f"interval contains {' and '.join(scalings) or 'neither linear nor square-root'} scaling. "
        f"By case: {'; '.join(others)}.",
        verdict,
        interval,
    )


@claim("That the loss falls less with larger batches is only an effect of the smoothing.")
def flattening(study: Study) -> Finding:
    """The fall of a curve is 1 - lowest / level, level being the median over the first tenth of the
    steps; of the smoothed loss and of the raw one (running median over half a decade of LR, which
    is the same number of images at any batch size over one epoch); each regressed on log10 batch
    size with one intercept per home case, in the sweep over one epoch each, else in that with fixed
    steps. Holds if the smoothed slope's interval lies below 0 and the raw slope's above
    half the smoothed slope: less than half of the flattening is in the raw loss. Does not hold if
    the smoothed slope's lies below 0 and the raw slope's below that half. Undecided otherwise: if
    nothing flattens, there is nothing to explain. The interval is the raw slope's."""
    for sweep in ("batch_size_epoch", "batch_size"):
        traces = study.traces(sweep)
        if len({trace.batch_size for trace in traces}) > 1:
            break
    else:
        return Finding("A sweep with several batch sizes is needed.", UNDECIDED)

    def slope(fall: Callable[[Trace], float]) -> tuple[float, tuple[float, float], int] | None:
        cases = sorted({trace.case for trace in traces})
        groups = [[t for t in traces if t.case == case] for case in cases]
        return common_slope(
            ([math.log10(t.batch_size) for t in group], [fall(t) for t in group])
            for group in groups
        )

    smoothed = slope(lambda t: 1 - _lowest(ema(t.raw_loss)) / _level(t))
    raw = slope(lambda t: 1 - _lowest(running_median(t.raw_loss, _half_decade(t))) / _level(t))
    if smoothed is None or raw is None:
        return Finding("More runs over batch sizes are needed.", UNDECIDED)
    (falling, (_, smoothed_high), n), (steady, interval, _) = smoothed, raw
    verdict, half = UNDECIDED, falling / 2
    if smoothed_high < 0:
        verdict = HOLDS if interval[0] > half else DOES_NOT_HOLD if interval[1] < half else verdict
    return Finding(
        f"With ten times the batch the fall of the smoothed loss changes by {falling:+.3f} of the "
        f"level [{smoothed[1][0]:+.3f}, {smoothed_high:+.3f}], that of the raw loss by "
        f"{steady:+.3f} (n = {n} runs of sweep {sweep}). Interval: the latter."
        f"{'' if smoothed_high < 0 else ' The smoothed loss does not clearly fall less.'}",
        verdict,
        interval,
    )


@claim("A narrower range than the recommended one is safer.")
def narrower_is_safer(study: Study) -> Finding:
    """Each weights (seed) are trained at the maximum LR and at the middle (geometric mean) of the
    same range, A's or B's. Of the weights that diverge or overfit (after equally many epochs) more
    often at one of the two than at the other, holds if it is more often the maximum (exact sign
    test, p < 0.05); does not hold if more often the middle. The interval is of the share of those
    where it is the maximum."""
    balance: Counter[int] = Counter()  # by seed of the weights: harmed at max less middle
    compared = harmed = 0
    for middle in study.cells(lr_kind="middle").itertuples():
        at_max = study.cells(
            pair=middle.pair, weights=middle.weights, lr_of=middle.lr_of, lr_kind="max"
        )
        for outcome in at_max["compared_outcome"]:
            compared, harmed = compared + 1, harmed + (outcome in HARMED)
            more = (outcome in HARMED) - (middle.compared_outcome in HARMED)
            balance[middle.weights_seed] += more
    if not balance:
        return Finding("No training at the middle of a range.", UNDECIDED)
    worse_at_max = sum(more > 0 for more in balance.values())
    worse_in_middle = sum(more < 0 for more in balance.values())
    evidence = (
        f"Of {compared} trainings at a maximum LR, of {len(balance)} initial weights, {harmed} "
        f"diverge or overfit; {worse_at_max} weights do so more often there than at the middle of "
        f"the same range, {worse_in_middle} less often."
    )
    differing = worse_at_max + worse_in_middle
    if not differing:
        return Finding(f"{evidence} So there is nothing to tell the two apart.", UNDECIDED)
    interval = share_interval(worse_at_max, differing)
    if stats.binomtest(worse_at_max, differing).pvalue >= 0.05:
        return Finding(f"{evidence} More such trainings are needed.", UNDECIDED, interval)
    verdict = HOLDS if worse_at_max > worse_in_middle else DOES_NOT_HOLD
    return Finding(evidence, verdict, interval)


@claim("Cyclical policies and warm restarts reduce the dependence on the suggested LR.")
def policies_help(study: Study) -> Finding:
    """Dependence: how far the validation accuracies at A's and at B's maximum LR are apart, on the
    same weights, after equally many epochs (0 for a training that stopped). A policy reduces it if
    it leaves less than {LESS_DEPENDENCE:.0%} of what a constant LR has, unless it stops at both
    LRs. Holds if the interval of the share of pairs on whose weights, A's and B's together, most
    policies do lies above one half; does not hold if below."""
    found_of: dict[str, dict[str, list[list[float]]]] = {}  # by pair, policy and weights
    keys = study.outcomes.loc[study.outcomes["policy"] != "constant", ["pair", "weights", "policy"]]
    for pair, weights, policy in sorted(set(keys.itertuples(index=False, name=None))):
        cells = [
            study.cells(pair=pair, weights=weights, lr_of=lr_of, lr_kind="max", policy=name)
            for name, lr_of in itertools.product((policy, "constant"), "AB")
        ]
        if not all(map(len, cells)):
            continue
        found = study.accuracies([cell["training"].iloc[0] for cell in cells])
        found_of.setdefault(pair, {}).setdefault(policy, []).append(found)
    wins = {
        pair: {policy: _reduces(*np.transpose(found)) for policy, found in by_policy.items()}
        for pair, by_policy in found_of.items()
    }
    if not wins:
        return Finding(
            "No training by another policy than constant (divergence.policies).", UNDECIDED
        )
    helped = sum(2 * sum(won.values()) > len(won) for won in wins.values())
    interval = share_interval(helped, len(wins))
    verdict = beside(interval, 0.5)
    parts = []
    for policy in sorted({name for won in wins.values() for name in won}):
        found = [won[policy] for won in wins.values() if policy in won]
        parts.append(f"{policy} {sum(found)} of {len(found)}")
    missing = " More trainings are needed." if verdict == UNDECIDED else ""
    return Finding(
        f"Most policies reduce the dependence that a constant LR has in {helped} of {len(wins)} "
        f"pairs; by policy: {', '.join(parts)}. Interval: the share of pairs.{missing}",
        verdict,
        interval,
    )


def _reduces(at_a: np.ndarray, at_b: np.ndarray, flat_a: np.ndarray, flat_b: np.ndarray) -> bool:
    """Accuracies of weights A and B at A's and at B's max LR, by a policy and by a constant LR."""
    less = np.abs(at_a - at_b).sum() < LESS_DEPENDENCE * np.abs(flat_a - flat_b).sum()
    return bool(less and np.maximum(at_a, at_b).all())
