"""Learning-rate policies at the same maximum: do they lessen the dependence on it?"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.report import style, wording
from lrrt.report.figures import _cells
from lrrt.report.study import StudyData, of_case

ORDER = 97
SECTION = "A's range on B's weights"
TITLE = "Policies at the same maximum learning rate"
NEEDS = "trainings by a policy beside constant (divergence.policies)"


def trainings(data: StudyData) -> pd.DataFrame:
    """Outcome rows at a max LR, own framework, all policies; of those pairs that were trained by
    several, at A's and at B's."""
    rows = data.outcomes
    rows = rows[(rows["lr_kind"] == "max") & (rows["weights_from"] == "")]
    rows = rows[rows.groupby(["pair", "policy"])["lr_of"].transform("nunique") == 2]
    return rows[rows.groupby("pair")["policy"].transform("nunique") > 1]


def headline(data: StudyData) -> str:
    rows = trainings(data)
    best = rows["best_val_accuracy"].fillna(0)  # 0: it stopped in its first epoch
    medians = best.groupby([rows["policy"], rows["lr_of"]], sort=False).median()
    parts = [
        f"{policy.replace('_', ' ')} {medians[policy, 'A']:.0%} and {medians[policy, 'B']:.0%}"
        for policy in rows["policy"].unique()
    ]
    return (
        ""
        if len(parts) < 2
        else (
            "Trained at the max LR suggested for A, the higher, and at the one for B, weights A "
            "and B reach, in the median of best validation accuracies "
            f"(n = {rows['pair'].nunique()} pairs), by policy: {', '.join(parts)}."
        )
    )


def caption(data: StudyData) -> str:
    rows = trainings(data)
    parts = []
    for policy, group in rows.groupby("policy", sort=False):
        at_a, at_b = (
            wording.outcomes(group.loc[group["lr_of"] == lr_of, "outcome"]) for lr_of in "AB"
        )
        parts.append(f"{policy}: {at_a} at A's, {at_b} at B's")
    return (
        f"n = {len(rows)} trainings of {rows['pair'].nunique()} pairs: weights A and B, each at "
        "A's max LR, the higher, and at B's, the LR being the policy's maximum. Best validation "
        "accuracy; a training that stopped in its first epoch is at zero. "
        "One cycle: up to the maximum, then down to nothing; triangular: from a quarter of it up "
        "and down, three times; warm restarts: down from it to nothing, three times. "
        f"{'; '.join(parts)}."
    )


def draw(data: StudyData) -> Figure | None:
    rows = trainings(data)
    policies = list(dict.fromkeys(rows["policy"]))
    if len(policies) < 2:
        return None
    cases = _cells.cases(data, rows)
    figure, grid = style.axes(1, len(cases), (1.6 + 3.6 * len(cases), 4), sharey=True)
    places = [place + side for place in range(len(policies)) for side in (-0.22, 0.22)]
    for ax, case in zip(grid[0], cases, strict=True):
        mine = of_case(rows, case)
        pairs = mine["pair"].unique()
        aside = dict(zip(pairs, style.jitter(len(pairs), 0.08), strict=True))
        for row in mine.itertuples():
            place = places[2 * policies.index(row.policy) + (row.lr_of == "B")]
            place += aside[row.pair] + (0.06 if row.weights == "B" else -0.06)
            best = 0.0 if np.isnan(row.best_val_accuracy) else row.best_val_accuracy
            _cells.dot(ax, row, place, best)
        words = [f"{lr_of}'s" for lr_of in "AB"] * len(policies)
        ax.set_xticks(places, words, minor=True)
        ax.set_xticks(range(len(policies)), ["\n" + p.replace("_", "\n") for p in policies])
        ax.tick_params("x", which="both", length=0)
        ax.set(xlim=(-0.5, len(policies) - 0.5), ylim=(-0.03, 1.03))
        ax.set_title(wording.case(*case))
    grid[0, 0].set_ylabel("best validation accuracy")
    _cells.weights_legend(figure, grid[0, 0])
    return figure
