"""Which of the suggested LRs can be trained at."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from lrrt.analysis.accuracy import accuracy_over_rate
from lrrt.claims import claim, margins
from lrrt.claims.shape import rises_before, with_both_lrs
from lrrt.claims.study import Case, Study
from lrrt.claims.transfer import lower_lr_result
from lrrt.claims.verdict import (
    Assessed,
    Effect,
    Grade,
    Result,
    Verdict,
    by_interval,
    combine,
    judge,
    mean_effect,
    not_run,
    share_effect,
    with_grade,
)
from lrrt.experiments.transfer.tables import HARMED

ENOUGH_LRS = 10  # different LRs trained at, for a curve of accuracy
RESAMPLES = 300  # of sets of weights: each is left out in turn, too


@claim(
    11,
    "Without smoothing, the max LR is seen to be unsafe",
    "Seen without smoothing, LRs as large as the suggested maximum are not safe.",
)
def unsafe_without_smoothing(studies: Sequence[Study]) -> Verdict:
    """In two parts. By trainings, which decide what is safe: accuracy at the suggested max LR minus
    the best over learning rate, by set of weights; supported if the interval lies below 0 by
    {ACCURACY:.0%} or more. By the curve, per protocol: most runs' raw loss (running median of five
    steps) has risen by {RISE:.0%} from its lowest by the suggested max LR; contradicted if the
    interval of the share lies below {SHARE:.0%}. Where they disagree, trainings decide."""
    curves, trainings = [], []
    for study in studies:
        for protocol, runs in with_both_lrs(study):
            hits = {
                i: rises_before(t.trained_lr, t.steady, r["max_lr"])
                for i, (t, r) in enumerate(runs)
            }
            curves.append(
                judge(
                    f"by the curve, {protocol}",
                    [study.scale],
                    "by the suggested max LR the raw loss has risen in {hits} of {runs} runs.",
                    hits,
                    lambda h: with_grade(share_effect(h, "share with a risen raw loss")),
                    runs=len(runs),
                    missing="{n} runs with new weights",
                    hits=sum(hits.values()),
                )
            )
        trainings += _lost_at_max(study)
    if not curves:
        return not_run("a weights sweep of a protocol on the backend that the post ran it on")
    judged = combine(trainings, "") if trainings else None
    if judged is None:
        return combine(curves, "The raw loss has risen by the max LR in {hits} of {runs} runs.")
    seen: dict[str, list[int]] = {}
    for r in curves:
        protocol = r.part.split(", ")[1]
        hits, total = seen.get(protocol, (0, 0))
        seen[protocol] = hits + r.numbers["hits"], total + r.runs
    listed = "; ".join(f"{hits} of {n} with the {{{key}}}" for key, (hits, n) in seen.items())
    main = judged.results[0].finding.removesuffix(".")
    sentence = f"{main} ({{scale}}). By then the raw loss has risen in {listed}."
    return Verdict(judged.grade, (*judged.results, *curves), sentence, judged.about)


def _lost_at_max(study: Study) -> list[Result]:
    """What training at the suggested max LR loses: of all constant LRs' curve of accuracy where
    there are enough, else of weights A between their own max LR and B's lower one."""
    found = []
    for backend, protocol in _trained_cases(study):
        rule = study.config.protocols[protocol].rule
        rows = study.outcomes.query("backend == @backend and protocol == @protocol")

        def lost(seeds: list[int], backend=backend, protocol=protocol, rows=rows, rule=rule):
            kept = rows[rows["weights_seed"].isin(seeds)]
            if kept["lr"].nunique() < ENOUGH_LRS or kept["weights_seed"].nunique() < 2:
                return _regret(None), Grade.OPEN
            frame = accuracy_over_rate(kept, study.suggestions, backend, protocol, RESAMPLES)
            effect = _regret(frame.suggested.set_index(["rule", "kind"]).loc[(rule, "max")])
            return with_grade(effect)

        seeds = {int(seed): int(seed) for seed in sorted(set(rows["weights_seed"]))}
        found.append(
            judge(
                f"trainings, {protocol}",
                [study.scale],
                "training at the suggested max LR loses {size} of accuracy against the best "
                "constant LR ({units} sets of weights).",
                seeds,
                lost,
                runs=len(rows),
                missing="trainings over learning rates",
            )
        )
    if not found and len(swapped := study.outcomes_of(lr_kind="max", weights="A")):
        swapped = swapped[swapped["pair"].isin(study.swap_accuracies.index)]
        result = lower_lr_result(study, swapped, "A") if len(swapped) else None
        finding = "at their own max LR weights A {lose} of accuracy against B's lower one."
        found += [replace(result, part="trainings", finding=finding)] if result else []
    return found


def _trained_cases(study: Study) -> list[Case]:
    """By protocol the backend with trainings at most LRs, where they are enough for a curve."""
    rows = study.outcomes_of()
    counts = rows.groupby(["backend", "protocol"])["lr"].nunique()
    best = counts[counts >= ENOUGH_LRS].sort_values().groupby("protocol").tail(1)
    return sorted(best.index)


def _regret(row: Mapping | None) -> Effect:
    """Mean loss of accuracy at a rule's suggestions against the best constant LR."""
    names = "regret", "regret_low", "regret_high"
    values = [math.nan] * 3 if row is None else [float(row[name]) for name in names]
    return Effect("accuracy lost against the best LR", *values, "accuracy", margins.ACCURACY)


@claim(
    13,
    "Min LR is safe to train at",
    "The minimum LR, at the steepest descent, is safe to train at.",
)
def minimum_is_safe(studies: Sequence[Study]) -> Verdict:
    """Harm grows with the LR in all trainings, so that weights which no constant LR from their own
    min LR to {SAFE_UP_TO:g} makes diverge or overfit are safe at min LR. Supported if the one-sided
    95 % bound of the share of sets of weights that are harmed lies below {SAFE:.0%}; contradicted
    if that of the share lies above. What min LR costs in accuracy is said beside."""
    results = []
    for study in studies:
        harmed: dict[int, bool] = {}
        direct: set[int] = set()
        rows = study.outcomes
        rows = rows[rows["policy"].eq("constant") & rows["weights_from"].eq("")]
        for (backend, protocol, seed), trained in rows.groupby(
            ["backend", "protocol", "weights_seed"]
        ):
            own = study.own_suggestions("weights", (backend, protocol)).query(
                "weights_seed == @seed"
            )
            known = [
                study.steepest.get((backend, protocol, "weights", run), math.nan)
                for run in own["run"]
            ]
            least = np.nanmin([*own["min_lr"], *known, math.inf])
            rows_here = trained[trained["lr"].between(least * (1 - 1e-9), margins.SAFE_UP_TO)]
            if len(rows_here):
                hit = bool(rows_here["compared_outcome"].isin(HARMED).any())
                harmed[int(seed)] = harmed.get(int(seed), False) or hit
                if (rows_here["lr"] <= least * 1.01).any():
                    direct.add(int(seed))
        if harmed:
            results.append(
                judge(
                    "safe",
                    [study.scale],
                    "{hits} of {units} sets of weights were harmed by a constant LR from their own "
                    "min LR to {up_to} ({direct} were trained at min LR itself).",
                    harmed,
                    _few_are_harmed,
                    runs=len(rows),
                    missing="{n} sets of weights trained at their min LR",
                    hits=sum(harmed.values()),
                    direct=len(direct),
                    up_to=margins.SAFE_UP_TO,
                )
            )
    if not results:
        return not_run("trainings at min LR (grids of divergence.cases)")
    costs = [cost for study in studies for cost in _cost_of_min(study)]
    dear = max(costs, key=lambda r: r.effect.value, default=None)
    return Verdict(
        combine(results, "").grade,
        (*results, *costs),
        f"{sum(r.numbers['hits'] for r in results)} of {sum(r.units for r in results)} sets of "
        "weights were harmed by a constant LR from their min LR up"
        + (f", but min LR is slow: it costs {_points(dear.effect)}." if dear else "."),
        missing=combine(results, "").missing,
    )


def _points(effect: Effect) -> str:
    return f"up to {100 * effect.value:.0f} points of accuracy"


def _few_are_harmed(harmed: list[bool]) -> Assessed:
    count, total = sum(harmed), len(harmed)
    if not total:
        return Effect("share harmed", *[math.nan] * 3, "share", 0.0, margins.SAFE), Grade.OPEN
    test = stats.binomtest(count, total, margins.SAFE, alternative="less")
    high = test.proportion_ci(margins.CONFIDENCE, method="exact").high
    low = stats.binomtest(count, total, alternative="greater").proportion_ci(margins.CONFIDENCE).low
    effect = Effect(
        "share of sets of weights harmed (one-sided bound)",
        count / total,
        float(low),
        float(high),
        "share",
        0.0,
        margins.SAFE,
        float(test.pvalue),
    )
    grade = Grade.SUPPORTED if high < margins.SAFE else Grade.OPEN
    return effect, Grade.CONTRADICTED if low > margins.SAFE else grade


def _cost_of_min(study: Study) -> list[Result]:
    found = []
    for backend, protocol in _trained_cases(study):
        frame = accuracy_over_rate(study.outcomes, study.suggestions, backend, protocol, RESAMPLES)
        rule = study.config.protocols[protocol].rule
        row = frame.suggested.set_index(["rule", "kind"]).loc[(rule, "min")]
        effect = _regret(row)
        found.append(
            Result(
                f"cost, {protocol}",
                (study.scale,),
                by_interval(effect),
                "trained at min LR, accuracy is {size} below that of the best constant LR.",
                effect,
                frame.trainings["weights_seed"].nunique(),
                int(row["n"]),
            )
        )
    return found


@claim(
    16,
    "A narrower range is safer",
    "A narrower range than the recommended one is safer.",
)
def narrower_is_safer(studies: Sequence[Study]) -> Verdict:
    """Validation accuracy at the middle (geometric mean) of the own range minus at its maximum,
    after equally many epochs, a mean over sets of weights: supported if the interval lies above 0
    by {ACCURACY:.0%} or more, contradicted if below 0."""
    results = []
    for study in studies:
        gains: dict[int, list[float]] = {}
        counts = {"max": 0, "middle": 0}
        middles = study.outcomes_of(lr_kind="middle")
        for middle in middles[middles["lr_of"] == middles["weights"]].itertuples():
            maxima = study.outcomes_of(
                pair=middle.pair, weights=middle.weights, lr_of=middle.lr_of, lr_kind="max"
            )
            for maximum in maxima.itertuples():
                there, at_max = study.accuracies([middle.training, maximum.training])
                gains.setdefault(middle.weights_seed, []).append(there - at_max)
                counts["max"] += maximum.compared_outcome in HARMED
                counts["middle"] += middle.compared_outcome in HARMED
        if not gains:
            continue
        by_weights = {seed: float(np.mean(values)) for seed, values in gains.items()}
        results.append(
            judge(
                "accuracy",
                [study.scale],
                "the middle of the range gains {effect} of accuracy over its maximum ({better} of "
                "{units} sets of weights do better; {at_max} of {runs} trainings are harmed at the "
                "maximum, {in_middle} in the middle).",
                by_weights,
                lambda v: with_grade(mean_effect(v, "accuracy at the middle minus the maximum")),
                runs=sum(map(len, gains.values())),
                missing="{n} sets of weights trained at both LRs",
                better=sum(v > 0 for v in by_weights.values()),
                at_max=counts["max"],
                in_middle=counts["middle"],
            )
        )
    if not results:
        return not_run("trainings at the middle of a range (grids of divergence.cases)")
    return combine(results, "The middle of a range gains {effect} of accuracy over its maximum.")
