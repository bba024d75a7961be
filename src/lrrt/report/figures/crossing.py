"""What A's max LR does to B's weights, and to A's own, against B's: every pair of a case."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lrrt.report import style, wording
from lrrt.report.figures import _cells
from lrrt.report.study import StudyData, of_case

ORDER = 95
SECTION = "A's range on B's weights"
TITLE = "What A's max LR does to B's weights"
NEEDS = "trainings of weights B at A's and at B's max LR"
SIDES = {"A": ("at A's max LR", "D"), "B": ("at B's max LR", "o")}
STOPPED = -0.06  # where a training without a last accuracy is drawn


def caption(data: StudyData) -> str:
    rows = data.cells(lr_kind="max")
    parts = []
    for case in _cells.cases(data, rows):
        for weights, mine in of_case(rows, case).groupby("weights", sort=False):
            sides = [mine[mine["lr_of"] == letter] for letter in SIDES]
            counted = ", ".join(
                f"{words} {wording.outcomes(side['compared_outcome'])} of {len(side)}"
                for (words, _), side in zip(SIDES.values(), sides, strict=True)
            )
            parts.append(f"{wording.case(*case)}, weights {weights} {counted}")
    swapped = rows["weights"].eq("A").any()
    also = "; of some pairs weights A at both, since A's is the higher one" if swapped else ""
    return (
        f"n = {len(rows)} trainings: weights B at the max LR suggested for run A, and, as a "
        f"control, at the one suggested for run B itself{also}. Best validation accuracy of the "
        f"first {rows['compared_epochs'].iloc[0]} epochs, which all trainings have (one that "
        f"stopped before its first one ended lies below zero). Colour: outcome after them; "
        f"a training that went on can have ended otherwise. "
        f"{'. '.join(parts)}."
    )


def draw(data: StudyData) -> Figure | None:
    rows = data.cells(lr_kind="max")
    if not len(rows):
        return None
    lines = [
        (case, pair, mine)
        for case in _cells.cases(data, rows)
        for (pair, _), mine in of_case(rows, case).groupby(["pair", "weights"], sort=False)
    ]
    figure, grid = style.axes(1, 1, (7, 1.5 + 0.42 * len(lines)))
    ax = grid[0, 0]
    labels = []
    for position, (case, pair, mine) in enumerate(lines):
        values = mine["compared_val_accuracy"].fillna(STOPPED)
        ax.plot([values.min(), values.max()], [position] * 2, color="#bbbbbb", linewidth=1.5)
        for row in mine.itertuples():
            accuracy = row.compared_val_accuracy
            best = STOPPED if np.isnan(accuracy) else accuracy
            ax.plot(
                [best],
                [position],
                SIDES[row.lr_of][1],
                markersize=9,
                color=style.INK,
                markerfacecolor=style.OUTCOME_COLOURS.get(row.compared_outcome, style.MUTED),
                markeredgewidth=0.8,
                gid=style.tip(_cells.outcome_hover(row)),
            )
        labels.append(
            f"{wording.case(*case)}, pair {_cells.number_of(pair, case)}, "
            f"weights {mine['weights'].iloc[0]}"
        )
    present = set(rows["compared_outcome"])
    handles = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=marker,
            color=style.INK,
            markerfacecolor="white",
            label=words,
        )
        for words, marker in SIDES.values()
    ] + [
        Line2D([], [], linestyle="none", marker="s", markersize=8, color=shade, label=name)
        for name, shade in style.OUTCOME_COLOURS.items()
        if name in present
    ]
    ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.3, 1.0), ncols=3)
    ax.set(
        yticks=range(len(lines)),
        yticklabels=labels,
        ylim=(len(lines) - 0.5, -0.5),
        xlim=(STOPPED - 0.04, 1.02),
        xlabel="best validation accuracy",
    )
    return figure
