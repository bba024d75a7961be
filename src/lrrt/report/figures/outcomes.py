"""What became of each training: weights A and B at each other's learning rates."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lrrt.analysis.evidence import Case
from lrrt.report import style, wording
from lrrt.report.figures import _cells
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 80
SECTION = "A's range on B's weights"
TITLE = "Outcomes of trainings at the suggested learning rates"
NEEDS = "trainings of the divergence stage"


def cases(data: StudyData) -> list[Case]:
    return _cells.cases(data, data.outcomes)


def title(case: Case) -> str:
    return f"{TITLE}: {wording.case(*case)}"


def _rows(data: StudyData, case: Case) -> pd.DataFrame:
    rows = _cells.of_first_pair(data.outcomes, case)
    return rows[rows["policy"] == "constant"]


def caption(data: StudyData, case: Case) -> str:
    rows = _rows(data, case)
    epochs = " or ".join(str(count) for count in sorted(rows["epochs"].unique()))
    return (
        f"n = {len(rows)} trainings at a constant LR, one a cell, of {epochs} epochs: "
        f"{wording.outcomes(rows['outcome'])} (definitions below). Percentages: validation "
        "accuracy after the last epoch, with batch norm's running statistics. A and B are the "
        "runs of the pair above; columns are learning rates, in order."
    )


def draw(data: StudyData, case: Case) -> Figure | None:
    rows = _rows(data, case)
    if not len(rows):
        return None
    columns = sorted({(row.lr, row.lr_of, row.lr_kind) for row in rows.itertuples()})
    lines = sorted({(row.weights_from, _cells.weights_words(row)) for row in rows.itertuples()})
    figure, grid = style.axes(1, 1, (max(6.6, 1.6 + 0.95 * len(columns)), 1.3 + 0.6 * len(lines)))
    ax = grid[0, 0]
    for row in rows.itertuples():
        x = columns.index((row.lr, row.lr_of, row.lr_kind))
        y = lines.index((row.weights_from, _cells.weights_words(row)))
        ax.add_patch(
            Rectangle(
                (x - 0.48, y - 0.46),
                0.96,
                0.92,
                linewidth=0,
                alpha=0.75,
                facecolor=style.OUTCOME_COLOURS.get(row.outcome, style.MUTED),
                gid=style.tip(_cells.outcome_hover(row)),
            )
        )
        accuracy = row.final_val_accuracy
        text = row.outcome + (f"\n{accuracy:.0%}" if pd.notna(accuracy) else "")
        text += f", {row.epochs} epochs" if rows["epochs"].nunique() > 1 else ""
        ax.text(x, y, text, ha="center", va="center", fontsize=9, color="black")
    ax.set(
        xlim=(-0.5, len(columns) - 0.5),
        ylim=(len(lines) - 0.5, -0.5),
        xticks=range(len(columns)),
        yticks=range(len(lines)),
        xticklabels=[f"{_cells.lr_words(of, kind)}\n{number(lr)}" for lr, of, kind in columns],
        yticklabels=[words.replace(", ", "\n") for _, words in lines],
        xlabel="learning rate",
    )
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    present = set(rows["outcome"])
    ax.legend(
        handles=[
            Patch(color=shade, alpha=0.75, label=name)
            for name, shade in style.OUTCOME_COLOURS.items()
            if name in present
        ],
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=4,
    )
    return figure
