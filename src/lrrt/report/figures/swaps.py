"""Whose learning rate, or how high: both weights of each pair at both maximum learning rates."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lrrt.analysis.statistics import mean_interval
from lrrt.claims.transfer import swaps_by_cluster
from lrrt.report import style, wording
from lrrt.report.figures import TRAINED, _trainings
from lrrt.report.study import StudyData, of_case

ORDER = 40
SECTION = TRAINED
PLACES = {"B": 0, "A": 1}  # A's maximum is the higher one
ASIDE = {"A": -0.05, "B": 0.05}  # of weights, so that their marks do not cover each other


def _rows(data: StudyData) -> pd.DataFrame:
    """The outcomes of the pairs with a swap, with ``accuracy`` after as many epochs as all had."""
    swapped = data.swap_accuracies
    rows = data.outcomes_of(lr_kind="max")
    rows = rows[rows["pair"].isin(swapped.index)]
    found = [swapped.at[row.pair, row.weights + row.lr_of] for row in rows.itertuples()]
    return rows.assign(accuracy=found, place=rows["lr_of"].map(PLACES))


def title(data: StudyData) -> str:
    gains = swaps_by_cluster(data)["lower"]
    points, (low, high) = round(100 * gains.mean()), mean_interval(gains)
    where = "higher" if points >= 0 else "lower"
    unsure = f", not clearly (n = {len(gains)} clusters)" if not (low > 0 or high < 0) else ""
    return f"At the {where} of two suggested maxima accuracy was {abs(points)} points lower{unsure}"


def caption(data: StudyData) -> str:
    swapped, gains, rows = data.swap_accuracies, swaps_by_cluster(data), _rows(data)
    ratios = rows.groupby("pair")["lr"].agg(lambda lrs: lrs.max() / lrs.min())
    return (
        f"n = {len(swapped)} pairs of the runs whose ranges lie furthest apart (maxima "
        f"{wording.times(ratios.min())} to {wording.times(ratios.max())} apart). A line is one set "
        f"of weights, trained for {rows['compared_epochs'].iloc[0]} epochs at both maxima; filled: "
        "the maximum suggested for these weights, hollow: for the partner's. The lower maximum "
        f"gains {wording.gain(gains['lower'])}, one's own {wording.gain(gains['own'])} (95 % t "
        f"intervals over {len(gains)} clusters of pairs that share weights); large marks: medians."
    )


def draw(data: StudyData) -> Figure | None:
    rows = _rows(data)
    if not len(rows):
        return None
    cases = _trainings.cases(data, rows)
    figure, grid = style.axes(1, len(cases), (style.WIDTH, 3.5), sharey=True, sharex=True)
    for ax, case in zip(grid[0], cases, strict=True):
        mine, shade = of_case(rows, case), style.colour(*case)
        for (_, weights), line in mine.groupby(["pair", "weights"]):
            line = line.sort_values("place")
            x = line["place"] + ASIDE[weights]
            ax.plot(x, line["accuracy"], color=style.MUTED, linewidth=0.9, alpha=0.6, zorder=1)
            for at, row in zip(x, line.itertuples(), strict=True):
                face = shade if row.lr_of == row.weights else style.PLATE
                _trainings.dot(ax, row, at, row.accuracy, markerfacecolor=face)
        sns.pointplot(
            mine,
            x="place",
            y="accuracy",
            estimator="median",
            errorbar=None,
            color=shade,
            markers="_",
            markersize=22,
            markeredgewidth=3,
            linestyle="none",
            ax=ax,
        )
        ax.set_title(wording.case(*case).replace(", ", ",\n"))
        ax.set(xlabel="", ylabel="validation accuracy", xlim=(-0.4, 1.4))
        ax.set_xticks([0, 1], ["lower\nmaximum", "higher\nmaximum"])
        ax.grid(False, axis="x")
    _trainings.guess(grid[0, 0], data)
    style.outcome_legend(grid[0, -1], rows["outcome"], loc="best")
    return figure
