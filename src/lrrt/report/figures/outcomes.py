"""What became of each training: weights A and B at each other's learning rates."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lrrt.report import style
from lrrt.report.figures import _cells
from lrrt.report.style import number
from lrrt.report.study import StudyData

ORDER = 80
SECTION = "A's range on B's weights"
TITLE = "Outcomes of training weights A and B at each range"
NEEDS = "trainings of the divergence stage"


def cases(data: StudyData) -> list[tuple[str, str]]:
    return _cells.cases(data, data.outcomes)


def title(backend: str, protocol: str) -> str:
    return f"{TITLE}: {style.label(backend, protocol)}"


def caption(data: StudyData, backend: str, protocol: str) -> str:
    rows = _cells.of_case(data.outcomes, backend, protocol)
    counts = rows["outcome"].value_counts()
    words = ", ".join(f"{counts[name]} {name}" for name in style.OUTCOME_COLOURS if name in counts)
    epochs = sorted(_cells.of_case(data.trainings, backend, protocol)
                    .groupby("training")["epoch"].max().unique())  # fmt: skip
    return (
        f"n = {len(rows)} trainings, one a cell, of {' or '.join(map(str, epochs))} epochs: {words} "
        "(definitions below). In each cell the validation accuracy after the last epoch. A and B "
        "are the runs of the pair above; columns are learning rates, in order."
    )


def grid_of(rows: pd.DataFrame) -> tuple[list[tuple], list[tuple]]:
    """Row and column keys: (weights, weights_from, policy) and (lr, lr_of, lr_kind)."""
    lines = sorted({(r.weights, r.weights_from, r.policy) for r in rows.itertuples()},
                   key=lambda key: (key[1] != "", key[2] != "constant", key))  # fmt: skip
    return lines, sorted({(r.lr, r.lr_of, r.lr_kind) for r in rows.itertuples()})


def draw(data: StudyData, backend: str, protocol: str) -> Figure | None:
    rows = _cells.of_case(data.outcomes, backend, protocol)
    if not len(rows):
        return None
    last = _cells.last_epochs(data.trainings).set_index("training")["val_accuracy"]
    lines, columns = grid_of(rows)
    figure, grid = style.axes(1, 1, (max(6.0, 2.4 + 0.92 * len(columns)), 1.5 + 0.62 * len(lines)))
    ax = grid[0, 0]
    for row in rows.itertuples():
        x = columns.index((row.lr, row.lr_of, row.lr_kind))
        y = lines.index((row.weights, row.weights_from, row.policy))
        accuracy = float(last.get(row.training, float("nan")))
        words = f"{_cells.hover(row)}: {row.outcome}, validation accuracy {number(accuracy, 3)}"
        cell = Rectangle(
            (x - 0.48, y - 0.46), 0.96, 0.92, linewidth=0, gid=style.tip(words),
            facecolor=style.OUTCOME_COLOURS.get(row.outcome, style.MUTED), alpha=0.75,
        )  # fmt: skip
        ax.add_patch(cell)
        text = row.outcome + (f"\n{accuracy:.0%}" if accuracy == accuracy else "")
        ax.text(x, y, text, ha="center", va="center", fontsize=9, color="black")
    ax.set(
        xlim=(-0.5, len(columns) - 0.5), ylim=(len(lines) - 0.5, -0.5),
        xticks=range(len(columns)), yticks=range(len(lines)),
        xticklabels=[f"{_cells.lr_words(of, kind)}\n{number(lr)}" for lr, of, kind in columns],
        yticklabels=[_cells.weights_words(*line).replace(", ", "\n") for line in lines],
        xlabel="learning rate",
    )  # fmt: skip
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    present = set(rows["outcome"])
    ax.legend(
        handles=[Patch(color=shade, alpha=0.75, label=name)
                 for name, shade in style.OUTCOME_COLOURS.items() if name in present],
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4,
    )  # fmt: skip
    return figure
