"""What A's max LR does to B's weights: every pair of a case, against B's own max LR."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lrrt.report import style
from lrrt.report.figures import _cells
from lrrt.report.study import StudyData, of_case

ORDER = 95
SECTION = "A's range on B's weights"
TITLE = "What A's max LR does to B's weights"
NEEDS = "trainings of weights B at A's and at B's max LR"
SIDES = {"A": ("at A's max LR", "D"), "B": ("at B's own max LR", "o")}
OUTCOME = "compared_outcome"
STOPPED = -0.06  # where a training without a last accuracy is drawn


def trainings(data: StudyData) -> pd.DataFrame:
    """Outcome rows of weights B at either max LR, constant, same framework."""
    rows = data.outcomes
    return rows[
        (rows["weights"] == "B")
        & (rows["lr_kind"] == "max")
        & (rows["weights_from"] == "")
        & (rows["policy"] == "constant")
    ]


def caption(data: StudyData) -> str:
    rows = trainings(data)
    parts = []
    for case in _cells.cases(data, rows):
        mine = of_case(rows, case)
        crossed, own = mine[mine["lr_of"] == "A"], mine[mine["lr_of"] == "B"]
        parts.append(
            f"{style.short_label(*case)}: at A's max LR {_cells.counts(crossed, OUTCOME)} of "
            f"{len(crossed)}, at B's own {_cells.counts(own, OUTCOME)} of {len(own)}"
        )
    return (
        f"n = {len(rows)} trainings, two a pair: weights B at the max LR suggested for run A, and, "
        f"as a control, at the one suggested for run B itself. Best validation accuracy of the "
        f"first {rows['compared_epochs'].iloc[0]} epochs, which all trainings have (one that "
        f"stopped before its first one ended lies below zero). Colour: outcome after them; "
        f"a training that went on can have ended otherwise. "
        f"{'. '.join(parts)}."
    )


def draw(data: StudyData) -> Figure | None:
    rows = trainings(data)
    if not len(rows):
        return None
    pairs = [
        (case, pair)
        for case in _cells.cases(data, rows)
        for pair in dict.fromkeys(of_case(rows, case)["pair"])
    ]
    figure, grid = style.axes(1, 1, (7, 1.5 + 0.42 * len(pairs)))
    ax = grid[0, 0]
    labels = []
    for position, (case, pair) in enumerate(pairs):
        mine = rows[rows["pair"] == pair]
        values = mine["compared_val_accuracy"].fillna(STOPPED)
        ax.plot([values.min(), values.max()], [position] * 2, color="#bbbbbb", linewidth=1.5)
        for row in mine.itertuples():
            accuracy = row.compared_val_accuracy
            best = STOPPED if np.isnan(accuracy) else accuracy
            ax.plot([best], [position], SIDES[row.lr_of][1], markersize=9, color=style.INK,
                    markerfacecolor=style.OUTCOME_COLOURS.get(row.compared_outcome, style.MUTED),
                    markeredgewidth=0.8, gid=style.tip(_cells.outcome_hover(row)))  # fmt: skip
        number = pair.removeprefix("-".join(case)).removeprefix("-") or "1"
        labels.append(f"{style.short_label(*case)}, pair {number}")
    present = set(rows[OUTCOME])
    handles = [
        Line2D([], [], linestyle="none", marker=marker, color=style.INK, markerfacecolor="white",
               label=f"weights B {words}") for words, marker in SIDES.values()
    ] + [
        Line2D([], [], linestyle="none", marker="s", markersize=8, color=shade, label=name)
        for name, shade in style.OUTCOME_COLOURS.items() if name in present
    ]  # fmt: skip
    ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.3, 1.0), ncols=3)
    ax.set(yticks=range(len(pairs)), yticklabels=labels, ylim=(len(pairs) - 0.5, -0.5),
           xlim=(STOPPED - 0.04, 1.02), xlabel="best validation accuracy")  # fmt: skip
    return figure
