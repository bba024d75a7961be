"""Whose learning rate, or how high: both weights of each pair at both maximum LRs."""

import pandas as pd
from matplotlib.figure import Figure

from lrrt.analysis.statistics import share_interval
from lrrt.report import style, wording
from lrrt.report.figures import _cells
from lrrt.report.study import StudyData, of_case

ORDER = 94
SECTION = "A's range on B's weights"
TITLE = "Both weights at both maximum learning rates"
ASIDE = {"A": 0.96, "B": 1.04}  # in LR, so that A's and B's dots do not cover each other
NEEDS = "trainings of weights A and B at both max LRs (swaps of divergence.cases)"


def _rows(data: StudyData) -> pd.DataFrame:
    """The outcomes of the pairs with a swap, with ``accuracy``."""
    swapped = data.swapped
    rows = data.cells(lr_kind="max")
    rows = rows[rows["pair"].isin(swapped.index)]
    found = [swapped.at[row.pair, row.weights + row.lr_of] for row in rows.itertuples()]
    return rows.assign(accuracy=found)


def _share(better: pd.Series) -> str:
    low, high = share_interval(int(better.sum()), len(better))
    return f"in {better.sum()} of {len(better)} (share [{low:.2f}, {high:.2f}])"


def caption(data: StudyData) -> str:
    swapped, rows = data.swapped, _rows(data)
    medians = swapped.median()
    ratios = rows.groupby("pair")["lr"].agg(lambda lrs: lrs.max() / lrs.min())
    epochs = rows["compared_epochs"].iloc[0]
    return (
        f"n = {len(swapped)} pairs, numbered, of the runs whose ranges lie furthest apart. A line "
        f"is the weights of one run, trained for {epochs} epochs at the max LR suggested for B and "
        f"at the one for A, which is the higher, {wording.number(ratios.min())} to "
        f"{wording.number(ratios.max())} times. Validation accuracy after the last of these "
        f"epochs: in the median weights A reach {medians['AA']:.0%} at their own and "
        f"{medians['AB']:.0%} at B's, weights B {medians['BB']:.0%} at their own and "
        f"{medians['BA']:.0%} at A's. B's gain {wording.gain(swapped['lower'])} over A's, a mean "
        "over both weights, and are the "
        f"better for weights A {_share(swapped['AB'] > swapped['AA'])}; their own gain "
        f"{wording.gain(swapped['own'])} over each other's and are the better "
        f"{_share(swapped['own'] > 0)}. (95 % t intervals.)"
    )


def draw(data: StudyData) -> Figure | None:
    rows = _rows(data)
    if not len(rows):
        return None
    cases = _cells.cases(data, rows)
    figure, grid = style.axes(1, len(cases), (1.4 + 2.9 * len(cases), 3.7), sharey=True)
    for ax, case in zip(grid[0], cases, strict=True):
        mine = of_case(rows, case)
        for (pair, weights), line in mine.groupby(["pair", "weights"]):
            line = line.sort_values("lr")
            x = line["lr"] * ASIDE[weights]
            ax.plot(
                x,
                line["accuracy"],
                color=style.WEIGHTS_COLOURS[weights],
                linewidth=1.1,
                alpha=0.7,
                zorder=1,
            )
            for row in line.itertuples():
                _cells.dot(ax, row, row.lr * ASIDE[weights], row.accuracy)
            number = _cells.number_of(pair, case)
            ax.annotate(
                number,
                (x.iloc[-1], line["accuracy"].iloc[-1]),
                (7, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
            )
        style.log_axis(ax, text="learning rate", subdivided=True)
        ax.set(title=wording.case(*case))
        ax.set_xlim(mine["lr"].min() / 2, mine["lr"].max() * 2)  # ticks also of equal LRs
    grid[0, 0].set(ylim=(-0.03, None), ylabel="validation accuracy")
    _cells.weights_legend(figure, grid[0, 0])
    return figure
