"""How high the suggested LRs are: beside the published ones, between protocols, beside 0.1."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from lrrt.analysis.published import RUNS, USUAL_LR, published
from lrrt.analysis.ranges import QUANTITIES
from lrrt.analysis.statistics import BOOTSTRAP_SEED, RESAMPLES
from lrrt.claims import claim, margins
from lrrt.claims.study import FASTAI, KERAS, Study
from lrrt.claims.verdict import (
    Assessed,
    Effect,
    Grade,
    Verdict,
    combine,
    judge,
    not_run,
    with_grade,
)

NORMAL_MEDIAN = math.sqrt(math.pi / 2)  # standard error of a median over that of a mean
TENTH_TO_NINTH = 2 * stats.norm.ppf(0.9)  # standard deviations from the 10 to the 90 % quantile


def median_error(values: np.ndarray) -> float:
    """Standard error of the median by the bootstrap, always the same; NaN for fewer than two."""
    if len(values) < 2:
        return math.nan
    random = np.random.default_rng(BOOTSTRAP_SEED)
    drawn = values[random.integers(0, len(values), (RESAMPLES, len(values)))]
    return float(np.median(drawn, axis=1).std(ddof=1))


def log_effect(quantity: str, value: float, error: float, none: float = 1.0) -> Effect:
    """A factor from its log10 and that one's standard error: normal interval and tests."""
    z, size = stats.norm.ppf((1 + margins.CONFIDENCE) / 2), math.log10(margins.FACTOR)
    away, known = abs(value - math.log10(none)), error > 0
    return Effect(
        quantity,
        10**value,
        10 ** (value - z * error) if known else math.nan,
        10 ** (value + z * error) if known else math.nan,
        "factor",
        margins.FACTOR,
        none,
        float(2 * stats.norm.sf(away / error)) if known else math.nan,
        float(stats.norm.sf((size - away) / error)) if known else math.nan,
    )


def within_a_factor(effect: Effect) -> Assessed:
    """``supported`` if the factor is shown to lie within margins.FACTOR of 1, ``contradicted`` if
    its interval lies outside."""
    effect = replace(effect, p=effect.p_equivalence)  # the test that is asked for
    if effect.p < margins.SIGNIFICANCE:
        return effect, Grade.SUPPORTED
    if effect.low > margins.FACTOR or effect.high < 1 / margins.FACTOR:
        return effect, Grade.CONTRADICTED
    return effect, Grade.OPEN


@claim(
    2,
    "Published medians of min and max LR",
    "With new weights or batch order each run, the suggested ranges have the published medians: "
    "about (0.1, 2) in Keras, (5e-4, 0.4) in fastai.",
)
def published_medians(studies: Sequence[Study]) -> Verdict:
    """At the post's scale, new weights each run: the ratio of our median to the published one, with
    the sampling errors of both (the published one's from its 10 and 90 % bars). Supported if it is
    shown to lie within a factor of {FACTOR:g} (two one-sided tests), contradicted if its interval
    lies outside. A factor of two cannot be shown: the published medians' own errors are as large.
    The published order sweep is of one set of weights, so that it compares with nothing."""
    results = []
    for study in (s for s in studies if s.at_the_posts_scale):
        for row in published().query("sweep == 'weights'").itertuples():
            rows = study.both_lrs("weights", (row.backend, row.protocol))
            if len(rows) < 2:
                continue
            theirs = math.log10(row.q90 / row.q10) / TENTH_TO_NINTH / math.sqrt(RUNS)

            def ratio(values: list[float], row=row, theirs=theirs) -> Assessed:
                error = math.hypot(median_error(np.array(values)), NORMAL_MEDIAN * theirs)
                value = np.median(values) - math.log10(row.median)
                return within_a_factor(log_effect("our median / published", float(value), error))

            values = np.log10(rows[row.quantity].to_numpy(np.float64))
            results.append(
                judge(
                    f"{row.quantity}, {row.protocol}",
                    [study.scale],
                    "our median is {effect} times the published one ({runs} runs).",
                    dict(enumerate(values)),
                    ratio,
                    runs=len(rows),
                    missing="{n} runs with new weights",
                )
            )
    if not results:
        return not_run("weights sweeps with ResNet-56 on CIFAR-10 at batch size 512")
    results.sort(key=lambda r: -r.effect.p_equivalence)
    return combine(
        results,
        "All medians with new weights lie within a factor of 3 of the published ones; the least "
        "certain one ({part}) is {effect} times the published one."
        if all(r.grade is Grade.SUPPORTED for r in results)
        else "Of the medians with new weights the least certain one ({part}) is {effect} times the "
        "published one.",
    )


@claim(
    9,
    "fastai suggests lower LRs than Keras",
    "The current PyTorch (fastai) finder suggests lower LRs than the Keras one.",
)
def fastai_is_lower(studies: Sequence[Study]) -> Verdict:
    """Between the weights sweeps of the fastai protocol on PyTorch and the Keras protocol on Keras,
    for min and for max LR: supported if a two-sided Mann-Whitney test gives p < {SIGNIFICANCE:g}
    and fastai's is lower, contradicted if higher. The effect is the ratio of the medians, by
    bootstrap, which matters from a factor of {FACTOR:g} on."""
    results = []
    for study in studies:
        ours, theirs = (study.both_lrs("weights", case) for case in (FASTAI, KERAS))
        if min(len(ours), len(theirs)) < 2:
            continue
        # Both samples have the same seeds: leaving weights out is leaving them out of both.
        for quantity in QUANTITIES[::-1]:
            by_seed: dict[int, list] = {}
            for side, rows in enumerate((ours, theirs)):
                for seed, lr in zip(rows["weights_seed"], np.log10(rows[quantity]), strict=True):
                    by_seed.setdefault(int(seed), [[], []])[side].append(float(lr))
            results.append(
                judge(
                    quantity,
                    [study.scale],
                    "fastai's median is {effect} times Keras's ({p}; {runs} runs in all).",
                    by_seed,
                    _ratio_of_medians,
                    runs=len(ours) + len(theirs),
                    missing="more runs with new weights of both protocols",
                )
            )
    if not results:
        return not_run("weights sweeps of both protocols, each on its own framework")
    return combine(
        results,
        "fastai's median max LR is {effect} times Keras's ({p}); its median min LR is "
        f"{results[1].effect.value:.2g} times.",
        about="max LR by less on the smaller network",
    )


def _ratio_of_medians(seeds: list[list]) -> Assessed:
    x, y = (np.array([lr for pair in seeds for lr in pair[side]]) for side in (0, 1))
    if min(len(x), len(y)) < 2:
        none = log_effect("ratio of medians", math.nan, math.nan)
        return none, Grade.OPEN
    error = math.hypot(median_error(x), median_error(y))
    effect = log_effect("ratio of medians", float(np.median(x) - np.median(y)), error)
    effect = replace(effect, p=float(stats.mannwhitneyu(x, y).pvalue))
    if not effect.p < margins.SIGNIFICANCE:
        return effect, Grade.OPEN
    if effect.value >= 1:
        return effect, Grade.CONTRADICTED
    return effect, Grade.SUPPORTED if effect.value <= 1 / effect.smallest else Grade.PARTLY


@claim(
    10,
    "Max LR 2.0, where 0.1 is usual",
    "The finder recommends a maximum LR of 2.0, where the usual value is around 0.1.",
)
def two_against_a_tenth(studies: Sequence[Study]) -> Verdict:
    """Median max LR of the Keras protocol on Keras over the usual 0.1, with new weights: supported
    if its interval lies above 1 and the ratio is {FACTOR:g} or more; contradicted if below 1."""
    results = []
    for study in studies:
        values = np.log10(study.both_lrs("weights", KERAS)["max_lr"].to_numpy(np.float64))
        if len(values) < 2:
            continue
        low = values < math.log10(margins.BIMODAL_BELOW)
        results.append(
            judge(
                KERAS[1],
                [study.scale],
                "the median max LR is {median}, {effect} times 0.1; {low} of {runs} runs are in "
                "the low mode near 0.1, the others within {sd} decades (SD) of {high}.",
                dict(enumerate(values)),
                lambda v: with_grade(
                    log_effect(
                        "median max LR / 0.1",
                        float(np.median(v)) - math.log10(USUAL_LR) if v else math.nan,
                        median_error(np.array(v)),
                    )
                ),
                runs=len(values),
                missing="{n} runs with new weights",
                median=float(10 ** np.median(values)),
                low=int(low.sum()),
                high=float(10 ** np.median(values[~low])) if (~low).any() else math.nan,
                sd=float(values[~low].std(ddof=1)) if (~low).sum() > 1 else math.nan,
            )
        )
    if not results:
        return not_run("a weights sweep of the Keras protocol on Keras")
    return combine(
        results,
        "The Keras protocol's median max LR is {median}, {effect} times the usual 0.1; {low} of "
        "{runs} runs suggest less than 0.3, the others about {high}.",
    )
