"""The loss curve of a range test, and where the two LRs lie on it."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from lrrt.analysis.suggestions import STEEPEST
from lrrt.claims import claim, margins
from lrrt.claims.study import Study, Trace
from lrrt.claims.verdict import (
    Grade,
    Result,
    Verdict,
    combine,
    judge,
    not_run,
    share_effect,
    with_grade,
)

NEEDED = "a weights sweep of a protocol on the backend that the post ran it on"


def level(trace: Trace) -> float:
    """The loss before anything happens: median over the first tenth of the steps."""
    return float(np.median(trace.steady[: first_tenth(trace)]))


def first_tenth(trace: Trace) -> int:
    return max(3, len(trace.trained_lr) // 10)


def with_both_lrs(study: Study) -> Iterator[tuple[str, list[tuple[Trace, pd.Series]]]]:
    """By protocol at home, the traces of the weights sweep for which its own rule suggests both
    LRs, with that suggestion; protocols without any are left out."""
    for case in study.home_cases():
        rows = study.both_lrs("weights", case).set_index("run")
        found = [(t, rows.loc[t.run]) for t in study.traces("weights", case) if t.run in rows.index]
        if found:
            yield case[1], found


def _most(part: str, study: Study, found: list[tuple[int, bool]], finding: str, quantity: str):
    """Whether most runs, each of its own weights, are as said."""
    units = dict(enumerate(hit for _, hit in found))
    return judge(
        part,
        [study.scale],
        finding,
        units,
        lambda hits: with_grade(share_effect(hits, quantity)),
        runs=len(found),
        hits=sum(units.values()),
        missing="{n} runs with new weights",
    )


def lowest_first(results: list[Result]) -> list[Result]:
    return sorted(results, key=lambda result: result.effect.value)


@claim(
    1,
    "A plateau, a descent, an explosion",
    "The loss starts with a plateau, descends to a minimum and finally explodes.",
)
def typical_shape(studies: Sequence[Study]) -> Verdict:
    """Supported if most range tests with new weights show all three in the raw loss (running median
    of five steps): over the first tenth of the steps it stays within {PLATEAU_TOLERANCE:.0%} of its
    median there, the level; its minimum lies at least {DESCENT_SHARE:.0%} below the level; after
    that it rises above the level or is not finite. Most: the exact interval of the share lies above
    {SHARE:.0%}, for every protocol on the post's backend; contradicted if it lies below."""
    results = []
    for study in studies:
        for case in study.home_cases():
            found = [(t.weights_seed, has_all_three(t)) for t in study.traces("weights", case)]
            if found:
                finding = "{hits} of {runs} range tests show all three."
                results.append(_most(case[1], study, found, finding, "share with all three"))
    if not results:
        return not_run(NEEDED)
    return combine(
        lowest_first(results),
        "In the case with the fewest, {hits} of {runs} range tests show a plateau, a descent and "
        "an explosion.",
    )


def has_all_three(trace: Trace) -> bool:
    steady, before = trace.steady, level(trace)
    start, lowest = steady[: first_tenth(trace)], int(np.argmin(steady))
    return bool(
        np.abs(start - before).max() <= margins.PLATEAU_TOLERANCE * before
        and steady[lowest] <= (1 - margins.DESCENT_SHARE) * before
        and steady[lowest:].max() > before
    )


@claim(
    3,
    "Min LR is where the loss descends fastest",
    "The minimum LR that the finder recommends is where the loss descends fastest.",
)
def steepest_descent(studies: Sequence[Study]) -> Verdict:
    """By protocol. The fastai rule's minimum is the steepest descent of the smoothed curve by
    definition. Another rule's is supported if the interval of the share of range tests in which its
    minimum lies within a step of the steepest descent is above {ALWAYS:.0%}, contradicted if below:
    "is where" means always."""
    results = []
    for study in studies:
        steepest = study.steepest
        for protocol, runs in with_both_lrs(study):
            fallbacks = sum(bool(row["fallback"]) for _, row in runs)
            if study.config.protocols[protocol].rule == STEEPEST:
                finding = "The fastai rule takes the steepest descent by definition."
                numbers = {"units": len(runs), "runs": len(runs), "robust": "yes"}
                results.append(
                    Result(protocol, (study.scale,), Grade.BY_DEFINITION, finding, **numbers)
                )
                continue
            hits = {}
            for index, (trace, row) in enumerate(runs):
                there = float(steepest.get((*trace.case, "weights", trace.run), math.nan))
                own, other = (int(np.abs(trace.lr - x).argmin()) for x in (row["min_lr"], there))
                hits[index] = math.isfinite(there) and abs(own - other) <= 1
            results.append(
                judge(
                    protocol,
                    [study.scale],
                    "In {hits} of {runs} runs the suggested minimum is the steepest descent; in "
                    "{fallbacks} it is the rule's silent fallback, a tenth of the maximum.",
                    hits,
                    lambda h: with_grade(share_effect(h, "share at the steepest", margins.ALWAYS)),
                    runs=len(runs),
                    hits=sum(hits.values()),
                    fallbacks=fallbacks,
                    missing="{n} runs with new weights",
                )
            )
    if not results:
        return not_run(NEEDED)
    results.sort(key=lambda r: r.effect is None)
    return combine(
        results,
        "True by definition for the fastai rule. The Keras rule's minimum is the steepest descent "
        "in {hits} of {runs} runs."
        if results[0].effect
        else "True by definition for the fastai rule.",
        about="by definition with the fastai protocol, not with the Keras protocol",
    )


@claim(
    4,
    "Max LR is a tenth of the minimum's, itself too large",
    "The maximum LR is a tenth of the LR at the minimum of the smoothed loss, since at that "
    "minimum itself the LR is too large.",
)
def minimum_over_ten(studies: Sequence[Study]) -> Verdict:
    """Judged on the raw loss (running median of five steps, which does not lag), in two parts. The
    reason is supported if in most range tests the raw minimum lies before the smoothed one. The
    factor ten is right for a run whose raw minimum lies between the maximum LR and ten times it;
    supported if most runs are such, contradicted if the interval of the share lies below
    {SHARE:.0%}."""
    reasons, factors = [], []
    for study in studies:
        for protocol, runs in with_both_lrs(study):
            past, right, lags = [], [], []
            for trace, row in runs:
                raw, maximum = trace.trained_lr[int(np.argmin(trace.steady))], row["max_lr"]
                past.append((trace.weights_seed, bool(raw < 10 * maximum)))
                right.append((trace.weights_seed, bool(maximum <= raw < 10 * maximum)))
                lags.append(math.log10(10 * maximum / raw))
            finding = (
                f"the smoothed minimum lies past the raw one in {{hits}} of {{runs}} runs, by "
                f"{np.median(lags):.1f} decades in the median."
            )
            quantity = "share with the raw minimum first"
            reasons.append(_most(f"reason, {protocol}", study, past, finding, quantity))
            finding = "dividing by ten lands at or below the raw minimum, and within ten of it, in "
            finding += "{hits} of {runs} runs."
            quantity = "share where ten is right"
            factors.append(_most(f"factor ten, {protocol}", study, right, finding, quantity))
    if not reasons:
        return not_run(NEEDED)
    reasons, factors = lowest_first(reasons), lowest_first(factors)
    return combine(
        [*reasons, *factors],
        "The smoothed loss is lowest at a higher LR than the raw loss in {hits} of {runs} runs. "
        f"Ten is the right divisor in {factors[0].numbers['hits']} of {factors[0].runs} runs in "
        "the case where it fits worst.",
        about=f"reason: {reasons[0].grade}; factor ten: {factors[0].grade}",
    )


def rises_before(lr: np.ndarray, loss: np.ndarray, maximum: float) -> bool:
    """Whether by ``maximum`` the loss has risen by margins.RISE over its lowest at smaller LRs."""
    last = max(int(np.searchsorted(lr, maximum * (1 + 1e-9))) - 1, 0)
    loss = np.where(np.isfinite(loss), loss, np.inf)
    return bool(loss[last] > (1 + margins.RISE) * loss[: last + 1].min())
