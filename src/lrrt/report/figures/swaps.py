"""Whose learning rate, or how high: both weights of each pair at both maximum LRs."""

import pandas as pd
from matplotlib.figure import Figure

from lrrt.analysis.statistics import share_interval
from lrrt.report import style
from lrrt.report.figures import _cells
from lrrt.report.study import StudyData, of_case

ORDER = 85
SECTION = "A's range on B's weights"
TITLE = "Both weights at both maximum learning rates"
NEEDS = "trainings of weights A and B at both max LRs (swaps of divergence.cases)"


def _rows(data: StudyData) -> pd.DataFrame:
    """The outcomes of the pairs with a swap, with ``accuracy``."""
    swapped = data.swapped()
    rows = data.cells(lr_kind="max")
    rows = rows[rows["pair"].isin(swapped.index)]
    found = [swapped.at[row.pair, row.weights + row.lr_of] for row in rows.itertuples()]
    return rows.assign(accuracy=found)


def _share(better: pd.Series) -> str:
    low, high = share_interval(int(better.sum()), len(better))
    return f"in {better.sum()} of {len(better)} (share [{low:.2f}, {high:.2f}])"


def caption(data: StudyData) -> str:
    swapped, rows = data.swapped(), _rows(data)
    medians = swapped.median()
    own = swapped["AA"] - swapped["AB"] + swapped["BB"] - swapped["BA"]
    return (
        f"n = {len(swapped)} pairs of runs. A line is the weights of one run, trained for "
        f"{rows['compared_epochs'].iloc[0]} epochs at the max LR suggested for B and at the one "
        "for A, which is the higher; filled where it is its own. Validation accuracy after the "
        "last of these epochs, 0 where a training had stopped. In the median weights A reach "
        f"{medians['AA']:.0%} at their own and {medians['AB']:.0%} at B's, weights B "
        f"{medians['BB']:.0%} at their own and {medians['BA']:.0%} at A's. Weights A do better at "
        f"B's {_share(swapped['AB'] > swapped['AA'])}, weights B "
        f"{_share(swapped['BB'] > swapped['BA'])}; both together do better at their own than at "
        f"each other's {_share(own > 0)}."
    )


def draw(data: StudyData) -> Figure | None:
    rows = _rows(data)
    if not len(rows):
        return None
    cases = _cells.cases(data, rows)
    figure, grid = style.axes(1, len(cases), (1.4 + 2.9 * len(cases), 3.7), sharey=True)
    for ax, case in zip(grid[0], cases, strict=True):
        for (_, weights), line in of_case(rows, case).groupby(["pair", "weights"]):
            line, shade = line.sort_values("lr"), style.WEIGHTS_COLOURS[weights]
            ax.plot(line["lr"], line["accuracy"], color=shade, linewidth=1.1, alpha=0.7, zorder=1)
            for row in line.itertuples():
                own = row.lr_of == weights
                ax.plot([row.lr], [row.accuracy], "oD"[weights == "B"], color=shade, markersize=7,
                        markerfacecolor=shade if own else "white",
                        gid=style.tip(_cells.outcome_hover(row)))  # fmt: skip
        style.log_axis(ax, text="learning rate", subdivided=True)
        ax.set(title=style.short_label(*case))
    grid[0, 0].set(ylim=(-0.03, None), ylabel="validation accuracy")
    for weights, marker in zip("AB", "oD", strict=True):
        shade = style.WEIGHTS_COLOURS[weights]
        for own in (True, False):
            grid[0, 0].plot([], [], marker, color=shade, linestyle="none",
                            markerfacecolor=shade if own else "white",
                            label=f"weights {weights}, {'own' if own else 'other'} LR")  # fmt: skip
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
