"""Training weights B at the LR suggested for weights A."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pandas as pd

from lrrt.claims import claim
from lrrt.claims.study import Study
from lrrt.claims.verdict import (
    Result,
    Verdict,
    combine,
    judge,
    mean_effect,
    not_run,
    share_effect,
    with_grade,
)

NEEDED = "trainings of weights B at A's and at its own max LR (divergence.cases)"


def clusters(pairs: dict[str, Iterable[Hashable]]) -> dict[str, int]:
    """By pair, the number of its cluster: pairs that share a set of weights are in one, directly or
    through others, whatever their backend."""
    found: list[tuple[set, list[str]]] = []
    for pair, weights in pairs.items():
        members, names = set(weights), [pair]
        for other in [cluster for cluster in found if cluster[0] & members]:
            members |= other[0]
            names = other[1] + names
            found.remove(other)
        found.append((members, names))
    return {name: number for number, (_, names) in enumerate(found) for name in names}


def clusters_of(study: Study, pairs: Iterable[str]) -> dict[str, int]:
    """:func:`clusters` of a study's pairs, by the seeds of their weights."""
    known = study.pairs_by_name
    return clusters({p: [known[p][side]["weights_seed"] for side in "AB"] for p in pairs})


def swaps_by_cluster(study: Study) -> pd.DataFrame:
    """What the lower and what one's own max LR gain (:attr:`.study.Study.swap_accuracies`), means
    over the pairs of a cluster, by its number."""
    gains = study.swap_accuracies[["lower", "own"]]
    return gains.groupby(gains.index.map(clusters_of(study, gains.index))).mean()


@claim(
    7,
    "A's max LR makes B diverge or overfit",
    "Training model B at A's maximum LR makes it diverge or overfit.",
)
def transfer_harms(studies: Sequence[Study]) -> Verdict:
    """In parts. It harms: validation accuracy of weights B at A's max LR minus at its own, after
    equally many epochs, a mean over sets of weights (a pair counts once for weights that several
    share); supported if the interval lies below 0 by {ACCURACY:.0%} or more. It diverges, by
    protocol, and it overfits, in all trainings: supported if the interval of the share lies above
    {SHARE:.0%}, contradicted if below."""
    losses, diverged, overfitted, native = [], [], [], []
    for study in studies:
        cells = study.outcomes_of(weights="B", lr_kind="max")
        both = cells.groupby("pair").filter(lambda rows: {"A", "B"} <= set(rows["lr_of"]))
        if not len(both):
            continue
        losses.append(lower_lr_result(study, both))
        native += [
            lower_lr_result(study, rows, "A") for rows in [_swapped_cells(study)] if len(rows)
        ]
        at_a = both[both["lr_of"] == "A"]
        for protocol, rows in at_a.groupby("protocol"):
            diverged.append(_share_of(study, rows, "diverged", f"diverges, {protocol}"))
        overfitted.append(_share_of(study, study.outcomes, "overfits", "overfits"))
    if not losses:
        return not_run(NEEDED)
    parts = [*losses, *diverged, *overfitted, *native]
    grades = {r.part.split(", ")[-1]: r.grade for r in (*losses[:1], *overfitted[:1])}
    counts = {}
    for r in diverged:
        hits, total = counts.get(r.part, (0, 0))
        counts[r.part] = hits + r.numbers["hits"], total + r.runs
    shares = "; ".join(
        f"{hits} of {total} diverged with the {{{part.split(', ')[1]}}}"
        for part, (hits, total) in counts.items()
    )
    return combine(
        parts,
        "At A's max LR weights B {lose} of accuracy against their own max LR ({scale}); "
        f"{shares}; {sum(r.numbers['hits'] for r in overfitted)} of "
        f"{sum(r.runs for r in overfitted)} trainings overfit.",
        about="; ".join(f"{part}: {grade}" for part, grade in grades.items()),
    )


def _swapped_cells(study: Study) -> pd.DataFrame:
    rows = study.outcomes_of(lr_kind="max", weights="A")
    return rows[rows["pair"].isin(study.swap_accuracies.index)]


def lower_lr_result(study: Study, cells: pd.DataFrame, weights: str = "B") -> Result:
    """Accuracy at A's max LR minus at B's, which is lower, by set of weights."""
    differences, smooth, nats = {}, {}, {}
    for _, rows in cells.groupby("pair"):
        rows = rows.drop_duplicates("lr_of").set_index("lr_of")
        trainings = list(rows.loc[["A", "B"], "training"])
        seed = int(rows["weights_seed"].iloc[0])
        for store, (at_a, at_b) in (
            (differences, study.accuracies(trainings)),
            (smooth, study.accuracies(trainings, last=2)),
            (nats, study.log_losses(trainings)),
        ):
            store.setdefault(seed, []).append(at_a - at_b)
    by_weights = {seed: float(np.mean(values)) for seed, values in differences.items()}
    own = "their own" if weights == "B" else "B's"
    return judge(
        "harms" if weights == "B" else "harms weights A, too",
        [study.scale],
        f"at A's max LR weights {weights} {{lose}} of accuracy beside {own} ({{runs}} pairs); "
        "{smooth} as the mean of the last two evaluations, {nats} nats of log-loss.",
        by_weights,
        lambda values: with_grade(mean_effect(values, "accuracy at A's max LR minus B's"), -1),
        runs=len(set(cells["pair"])),
        missing="{n} pairs",
        smooth=f"{100 * _mean(smooth):+.0f} points",
        nats=_mean(nats),
    )


def _mean(by_weights: dict[int, list[float]]) -> float:
    return float(np.mean([np.mean(values) for values in by_weights.values()]))


def _share_of(study: Study, rows: pd.DataFrame, outcome: str, part: str) -> Result:
    hits = {index: value == outcome for index, value in rows["outcome"].items()}
    finding = "{hits} of {runs} trainings {verb} ({epochs} epochs)."
    result = judge(
        part,
        [study.scale],
        finding,
        hits,
        lambda h: with_grade(share_effect(h, f"share that {outcome}")),
        runs=len(hits),
        missing="{n} pairs",
        hits=sum(hits.values()),
        verb={"diverged": "diverged", "overfits": "overfit"}[outcome],
        epochs=" or ".join(map(str, sorted(set(rows["epochs"])))),
    )
    return Result(**vars(result) | {"units": rows["weights_seed"].nunique()})


@claim(
    8,
    "Use the same initial weights",
    "Use the same initial weights for the finder and for the training that follows.",
)
def same_weights(studies: Sequence[Study]) -> Verdict:
    """Over all pairs of which both weights were trained at both max LRs: what their own gains them
    in validation accuracy, ((A at A's - A at B's) + (B at B's - B at A's)) / 2, so that the height
    of the LR cancels. Pairs that share weights are one cluster; all scales are pooled. Supported if
    the interval lies above 0 by {ACCURACY:.0%} or more; no effect above the margin if two one-sided
    tests place it within {ACCURACY:.0%} of 0."""
    pooled, alone = {}, []
    for study in studies:
        own = swaps_by_cluster(study)["own"]
        values = {(study.scale, number): float(value) for number, value in own.items()}
        pooled |= values
        if len(studies) > 1 and values:
            alone.append(_own_gain("one scale", [study.scale], values, len(study.swap_accuracies)))
    if not pooled:
        return not_run("pairs of which both weights were trained at both max LRs (swaps)")
    scales = [study.scale for study in studies if len(study.swap_accuracies)]
    together = _own_gain("all scales", scales, pooled, sum(len(s.swap_accuracies) for s in studies))
    sentence = (
        "Training at the LR found on the same weights instead of the partner's changes accuracy by "
        "{effect} ({runs} pairs in {units} clusters of weights)."
    )
    return Verdict(together.grade, (together, *alone), sentence, missing=together.missing)


def _own_gain(part, scales, values: dict, pairs: int) -> Result:
    return judge(
        part,
        scales,
        "one's own LR gains {effect} ({runs} pairs, {units} clusters of weights).",
        values,
        lambda v: with_grade(mean_effect(v, "gain by one's own max LR")),
        runs=pairs,
        missing="{n} clusters of pairs with both weights at both max LRs",
    )
