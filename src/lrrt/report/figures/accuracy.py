"""Accuracy over learning rate, and below it what the finder suggests."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrrt.analysis.accuracy import AccuracyOverRate, accuracy_over_rate
from lrrt.claims.study import Case
from lrrt.report import style, wording
from lrrt.report.figures import ANSWER, _trainings
from lrrt.report.study import StudyData
from lrrt.report.study import of_case as rows_of
from lrrt.report.wording import number, percent

ORDER = 10
SECTION = ANSWER
LEAST_SPAN = 10  # times the lowest rate: of a narrower choice there is nothing to see
WORDS = 0.46  # share of the width that the words at a bar take
FEWEST = 4  # learning rates that make a line of accuracy over them
OTHER_RULES = ("fastai_valley",)  # shown beside the protocol's own
KINDS = {"min": "min LR", "middle": "middle of the range", "max": "max LR"}


class Hero(NamedTuple):
    """The case trained at most learning rates; its constant-rate outcomes; what they say."""

    case: Case
    rows: pd.DataFrame
    found: AccuracyOverRate


def choice(data: StudyData) -> Hero | None:
    rows = data.outcomes_of()
    counts = {
        case: mine["lr"].nunique()
        for case in _trainings.cases(data, rows)
        if (mine := rows_of(rows, case))["lr_kind"].nunique() > 1
        and mine["lr"].max() > LEAST_SPAN * mine["lr"].min()
    }
    case = max(counts, key=counts.get, default=None)
    return None if case is None or counts[case] < FEWEST else of_case(data, case)


def of_case(data: StudyData, case: Case) -> Hero:
    resamples = data.config.report.bootstrap_resamples
    found = accuracy_over_rate(data.outcomes, data.suggestions, *case, resamples)
    return Hero(case, rows_of(data.outcomes_of(), case), found)


def suggestions(data: StudyData, hero: Hero) -> pd.DataFrame:
    """The rows of ``hero.found.suggested`` that are drawn, the lowest rate first; ``name``."""
    own = data.config.protocols[hero.case[1]].rule
    rows = hero.found.suggested.dropna(subset=["median_lr"])
    rows = rows[rows["rule"].eq(own) | rows["rule"].isin(OTHER_RULES)]
    names = rows["kind"].map(KINDS).fillna(rows["rule"])
    return rows.assign(name=names).sort_values("median_lr")


def title(data: StudyData) -> str:
    rows = choice(data).rows
    failed, at_max = rows["outcome"] != "trains", rows["lr_kind"] == "max"
    below = rows[rows["lr"] < rows.loc[at_max, "lr"].min()]
    lower = int((below["outcome"] != "trains").sum())
    return (
        f"At suggested maxima {int((failed & at_max).sum())} of {int(at_max.sum())} trainings "
        f"failed; at lower learning rates {lower or 'none'} of {len(below)} did"
    )


def caption(data: StudyData) -> str:
    case, rows, found = choice(data)
    good = f"{number(found.best['good_from'])} to {number(found.best['good_to'])}"
    return (
        f"Marks: trainings of {rows['epochs'].max()} epochs at a constant learning rate "
        f"(n = {len(rows)}, {rows['weights_seed'].nunique()} initial weights, "
        f"{wording.case(*case)}); line: their local mean with a 95 % bootstrap band; shaded: "
        f"within five points of the best, {good}. Below: the median suggestion, 10 to 90 % of the "
        "range tests, and the points of accuracy lost by training there."
    )


def draw(data: StudyData) -> Figure | None:
    hero = choice(data)
    if hero is None:
        return None
    bars = suggestions(data, hero)
    figure, grid = style.axes(
        2, 1, (style.WIDTH, 4.7), sharex=True, height_ratios=[3, 0.25 + 0.28 * len(bars)]
    )
    upper, lower = grid[:, 0]
    shade, curve, best = style.colour(*hero.case), hero.found.curve, hero.found.best
    for ax in (upper, lower):
        ax.axvspan(best["good_from"], best["good_to"], color=style.LINE, alpha=0.6, linewidth=0)
    upper.fill_between(curve["lr"], curve["low"], curve["high"], color=shade, alpha=0.18, lw=0)
    upper.plot(curve["lr"], curve["accuracy"], color=shade, linewidth=1.4)
    for row in hero.rows.itertuples():
        accuracy = row.final_val_accuracy if pd.notna(row.final_val_accuracy) else 0.0
        _trainings.dot(upper, row, row.lr, accuracy)
    _trainings.guess(upper, data)
    upper.set(ylabel="validation accuracy")
    style.outcome_legend(upper, hero.rows["outcome"], loc="lower left", bbox_to_anchor=(0, 0.2))
    draw_bars(lower, bars, shade)
    return figure


def draw_bars(ax: Axes, bars: pd.DataFrame, shade: str) -> None:
    """Below the accuracies, a bar a suggestion: 10 to 90 % of the range tests, and what is lost."""
    rows = list(enumerate(reversed(list(bars.itertuples()))))
    for place, row in rows:
        text = (
            f"{row.name}: {words(row)} [{percent(row.regret_low)}, {percent(row.regret_high)}], "
            f"n = {row.n}"
        )
        rates = row.low_lr, row.median_lr, row.high_lr
        style.span(ax, place, *rates, text=text, color=shade, linewidth=7, tick=13)
    ax.set(yticks=range(len(bars)), yticklabels=bars["name"][::-1])
    ax.set_ylim(-0.6, max(len(bars), 1) - 0.4)
    ax.grid(False, axis="y")
    style.log_axis(ax)
    left, right = np.log10(ax.get_xlim())
    for place, row in rows:
        # Left of a bar that ends where the words to its right would leave the figure.
        late = np.log10(row.high_lr) > right - WORDS * (right - left)
        ax.annotate(
            words(row),
            (row.low_lr if late else row.high_lr, place),
            (-8 if late else 8, 0),
            textcoords="offset points",
            va="center",
            ha="right" if late else "left",
            fontsize=8,
        )


def words(row) -> str:
    lost = round(100 * row.regret)
    return (
        f"{number(row.median_lr)} ({wording.times(row.high_lr / row.low_lr)}): loses {lost} "
        f"point{'s' * (lost != 1)}"
    )
