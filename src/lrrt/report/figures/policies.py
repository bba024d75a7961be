"""Learning-rate policies at the same maximum: do they lessen the dependence on it?"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.report import style
from lrrt.report.figures import _cells
from lrrt.report.study import StudyData, of_case

ORDER = 97
SECTION = "A's range on B's weights"
TITLE = "Policies at the same maximum learning rate"
NEEDS = "trainings by a policy beside constant (divergence.policies)"


def trainings(data: StudyData) -> pd.DataFrame:
    """Outcome rows at a max LR, own framework, all policies; of those pairs that were trained by
    several."""
    rows = data.outcomes
    rows = rows[(rows["lr_kind"] == "max") & (rows["weights_from"] == "")]
    return rows[rows.groupby("pair")["policy"].transform("nunique") > 1]


def headline(data: StudyData) -> str:
    rows = trainings(data)
    best = rows["best_val_accuracy"].fillna(0)  # 0: it stopped in its first epoch
    medians = best.groupby([rows["policy"], rows["lr_of"]], sort=False).median()
    parts = [
        f"{policy.replace('_', ' ')} {medians[policy, 'A']:.0%} and {medians[policy, 'B']:.0%}"
        for policy in rows["policy"].unique()
    ]
    return "" if len(parts) < 2 else (
        "Trained at the max LR suggested for A, the higher, and at the one for B, weights A and B "
        f"reach, in the median of best validation accuracies (n = {rows['pair'].nunique()} pairs), "
        f"by policy: {', '.join(parts)}."
    )  # fmt: skip


def caption(data: StudyData) -> str:
    rows = trainings(data)
    parts = [
        f"{policy}: {_cells.counts(group)}" for policy, group in rows.groupby("policy", sort=False)
    ]
    return (
        f"n = {len(rows)} trainings of {rows['pair'].nunique()} pairs: weights A (circles) and B "
        "(diamonds), each at A's max LR (filled) and at B's (hollow), the LR being the policy's "
        "maximum. Best validation accuracy; a training that stopped in its first epoch is at zero. "
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
    figure, grid = style.axes(1, len(cases), (1.6 + 3.6 * len(cases), 3.6), sharey=True)
    for ax, case in zip(grid[0], cases, strict=True):
        shade = style.colour(*case)
        mine = of_case(rows, case)
        pairs = mine["pair"].unique()
        aside = dict(zip(pairs, style.jitter(len(pairs), 0.1), strict=True))
        for row in mine.itertuples():
            side = {"A": -0.2, "B": 0.2}[row.weights] + aside[row.pair]
            best = 0.0 if np.isnan(row.best_val_accuracy) else row.best_val_accuracy
            ax.plot([policies.index(row.policy) + side], [best], "oD"[row.weights == "B"],
                    markersize=8, color=shade, alpha=0.85,
                    markerfacecolor=shade if row.lr_of == "A" else "white",
                    gid=style.tip(_cells.outcome_hover(row)))  # fmt: skip
        ax.set(xticks=range(len(policies)), xlim=(-0.5, len(policies) - 0.5), ylim=(-0.03, 1.03),
               xticklabels=[policy.replace("_", "\n") for policy in policies])  # fmt: skip
        ax.set_title(style.short_label(*case))
    grid[0, 0].set_ylabel("best validation accuracy")
    return figure
