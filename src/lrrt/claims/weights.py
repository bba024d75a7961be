"""What the initial weights do to the suggested range."""

import math
from collections.abc import Sequence

import numpy as np

from lrrt.analysis.crossed import by_weights_and_batches, weights_share, weights_test
from lrrt.analysis.ranges import with_range
from lrrt.analysis.statistics import BOOTSTRAP_SEED, MINIMUM_RUNS
from lrrt.claims import claim, margins
from lrrt.claims.study import Case, Study
from lrrt.claims.verdict import Assessed, Effect, Grade, Scale, Verdict, combine, judge, not_run

ENOUGH_RUNS = 10  # of which no two are disjoint: then disjoint ranges are denied


@claim(
    5,
    "The range changes with the initial weights",
    "The suggested range changes with the initial weights.",
)
def weights_change_suggestion(studies: Sequence[Study]) -> Verdict:
    """In the crossed design (sets of weights by batch orders, each combination once), log10 max LR:
    an F test of weights against their interaction with order, its p by permuting weights within
    orders. Supported if p < {SIGNIFICANCE:g} and the standard deviation between sets of weights is
    {DECADES:g} decades or more, partly if less. The effect is the weights' share of the variance.
    """
    results = []
    for study in studies:
        for (protocol, depth, size), runs in study.variance_runs.groupby(
            ["protocol", "depth", "batch_size"], sort=False
        ):
            table = by_weights_and_batches(runs, "max_lr")
            if min(table.shape, default=0) < 3:
                continue
            rows = {seed: row.to_numpy() for seed, row in table.iterrows()}
            test = weights_test(np.stack(list(rows.values())))
            if test is None:
                continue
            results.append(
                judge(
                    protocol,
                    [Scale(study.config.model.name, int(depth), int(size))],
                    "the weights account for {effect} of the variance of max LR (F = {f}, "
                    "permutation {p}); between sets of weights the SD is {spread} decades ({units} "
                    "by {orders} runs).",
                    rows,
                    _share_of_weights,
                    runs=table.size,
                    missing="14 sets of weights by 6 batch orders (48 more range tests)",
                    f=test.f,
                    spread=test.spread,
                    orders=table.shape[1],
                )
            )
    if not results:
        return not_run("a crossed design of 3 sets of weights by 3 batch orders or more (variance)")
    results.sort(key=lambda r: (r.effect.p, r.part))
    return combine(
        results,
        "The initial weights account for {effect} of the variance of max LR with the {part} ({p}), "
        f"and for {100 * results[-1].effect.value:.0f} % in the case where they account for least.",
        about=f"weaker with the {{{results[-1].part}}}",
    )


def _share_of_weights(rows: list[np.ndarray]) -> Assessed:
    quantity = "share of the variance of log10 max LR that the weights make"
    test = weights_test(np.stack(rows)) if len(rows) > 1 else None
    if test is None:
        return Effect(quantity, *[math.nan] * 3, "share", 0.0), Grade.OPEN
    effect = Effect(quantity, test.share, *weights_share(np.stack(rows)), "share", 0.0, p=test.p)
    if not test.p < margins.SIGNIFICANCE:
        return effect, Grade.OPEN
    return effect, Grade.SUPPORTED if test.spread >= margins.DECADES else Grade.PARTLY


@claim(
    6,
    "Two ranges can fail to overlap",
    "Two initialisations A and B can have suggested ranges that do not overlap.",
)
def disjoint_ranges(studies: Sequence[Study]) -> Verdict:
    """Supported if two runs with new weights have disjoint ranges and still do when the steepest
    descent takes the place of a min LR that is the rule's silent fallback (a tenth of max LR);
    partly if they are disjoint only by the fallback; contradicted if no two are among 10 runs or
    more. The interval of the share of pairs resamples runs, by protocol."""
    results = []
    for study in studies:
        for case in study.home_cases():
            rows = with_range(study.own_suggestions("weights", case))
            if len(rows) < 2:
                continue
            found = _disjoint(study, case)
            units = {i: i for i in range(len(found[0]))}
            results.append(
                judge(
                    case[1],
                    [study.scale],
                    "{disjoint} of {pairs} pairs of runs are disjoint; with the steepest descent "
                    "instead of the fallback {real} are.",
                    units,
                    lambda runs, found=found: _share_disjoint(found, runs),
                    runs=len(rows),
                    missing=f"at least {ENOUGH_RUNS} runs",
                    disjoint=int(found[0].sum()) // 2,
                    real=int(found[1].sum()) // 2,
                    pairs=math.comb(len(rows), 2),
                )
            )
    if not results:
        return not_run("two runs with new weights of a protocol on its own framework")
    results.sort(key=lambda r: -r.effect.value)
    artefact = any(r.grade is Grade.PARTLY for r in results) and not any(
        r.grade is Grade.SUPPORTED for r in results
    )
    verdict = combine(
        results,
        "In the case with the most, {disjoint} of {pairs} pairs of ranges do not overlap, all "
        "because of the rule's silent fallback: with the steepest descent in its place, {real}."
        if artefact
        else "In the case with the most, {disjoint} of {pairs} pairs of ranges do not overlap.",
    )
    if artefact:  # with one protocol; that no two are with the other does not deny "can"
        return Verdict(Grade.PARTLY, verdict.results, verdict.sentence, "only by the fallback")
    return verdict


def _disjoint(study: Study, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Which runs with a range are disjoint, as suggested and without fallbacks; bool (n, n)."""
    rows = with_range(study.own_suggestions("weights", case))
    fell = rows["fallback"].to_numpy(bool)
    steepest = np.array(
        [study.steepest.get((*case, "weights", run), np.nan) for run in rows["run"]]
    )
    low, high = np.where(fell, steepest, rows["min_lr"]), rows["max_lr"].to_numpy(np.float64)
    ordered = (low <= high) & (low <= high)[:, None]
    real = ordered & ((low[:, None] > high) | (low > high[:, None]))
    return study.disjoint(case), real


def _share_disjoint(found: tuple[np.ndarray, np.ndarray], runs: list[int]) -> Assessed:
    apart, real = (matrix[np.ix_(runs, runs)] for matrix in found)
    quantity, pairs = "share of pairs with disjoint ranges", math.comb(len(runs), 2)
    value = apart.sum() / 2 / pairs if pairs else math.nan
    low = high = math.nan
    if apart.any() and len(runs) >= MINIMUM_RUNS:
        random = np.random.default_rng(BOOTSTRAP_SEED)
        drawn = random.integers(0, len(runs), (400, len(runs)))
        shares = []
        for picked in drawn:
            different = picked[:, None] != picked
            shares.append(apart[np.ix_(picked, picked)].sum() / max(different.sum(), 1))
        low, high = (float(q) for q in np.quantile(shares, [0.025, 0.975]))
    effect = Effect(quantity, float(value), low, high, "share", 0.0)
    if value > 0:
        return effect, Grade.SUPPORTED if real.any() else Grade.PARTLY
    return effect, Grade.CONTRADICTED if len(runs) >= ENOUGH_RUNS - 1 else Grade.OPEN
