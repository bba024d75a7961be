"""Learning rate policies other than a constant one."""

from collections.abc import Sequence

import numpy as np

from lrrt.claims import claim
from lrrt.claims.study import Study
from lrrt.claims.transfer import clusters_of
from lrrt.claims.verdict import Grade, Verdict, combine, judge, mean_effect, not_run, with_grade


@claim(
    17,
    "Cyclical policies and warm restarts reduce the dependence",
    "Cyclical policies and warm restarts reduce the dependence on the suggested LR.",
)
def policies_help(studies: Sequence[Study]) -> Verdict:
    """By policy. Dependence: how far the validation accuracies at A's and at B's max LR are apart,
    on the same weights, after equally many epochs. The effect is a constant LR's minus the
    policy's, a mean over pairs: supported if the interval lies above 0 by {ACCURACY:.0%} or more,
    contradicted if below 0. A grade that needs every pair's weights is marked as fragile, and pairs
    that share weights as one cluster."""
    results = []
    for study in studies:
        rows = study.outcomes[study.outcomes["policy"] != "constant"]
        for policy in dict.fromkeys(rows["policy"]):
            reduced, apart = {}, []
            for pair in dict.fromkeys(rows.loc[rows["policy"] == policy, "pair"]):
                differences = [_apart(study, pair, name) for name in ("constant", policy)]
                if all(differences):
                    flat, other = (float(np.mean(values)) for values in differences)
                    reduced[pair] = flat - other
                    apart.append((flat, other))
            if not reduced:
                continue
            clusters = set(clusters_of(study, reduced).values())
            flat, other = np.mean(apart, axis=0)
            results.append(
                judge(
                    policy,
                    [study.scale],
                    "the gap between A's and B's LR is {other} instead of {flat}: smaller by "
                    "{effect}, in {better} of {runs} pairs ({clusters} clusters of weights).",
                    reduced,
                    lambda v: with_grade(mean_effect(v, "reduction of the gap in accuracy")),
                    runs=len(reduced),
                    missing="{n} pairs",
                    better=sum(value > 0 for value in reduced.values()),
                    flat=f"{100 * flat:.0f}",
                    other=f"{100 * other:.0f} points",
                    clusters=len(clusters),
                )
            )
    if not results:
        return not_run("trainings by other policies than a constant LR (divergence.policies)")
    results.sort(key=lambda r: r.effect.p)
    verdict = combine(results, "")
    grade = Grade.MIXED if len({r.grade for r in results}) > 1 else verdict.grade
    return Verdict(
        grade,
        verdict.results,
        "With {part} the gap in accuracy between A's and B's max LR is smaller by {effect}"
        + "".join(f"; {{{r.part}}}: {r.grade}" for r in results[1:])
        + ".",
        "; ".join(f"{{{r.part}}}: {r.grade}" for r in results) if grade is Grade.MIXED else "",
        verdict.missing,
    )


def _apart(study: Study, pair: str, policy: str) -> list[float]:
    """Of each weights of a pair, the difference between the accuracies at both max LRs."""
    found = []
    for weights in "AB":
        cells = [
            study.outcomes_of(pair=pair, weights=weights, lr_of=lr_of, lr_kind="max", policy=policy)
            for lr_of in "AB"
        ]
        if all(map(len, cells)):
            at_a, at_b = study.accuracies([cell["training"].iloc[0] for cell in cells])
            found.append(abs(at_a - at_b))
    return found
