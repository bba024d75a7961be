"""Accuracy over learning rate, and below it what the finder suggests."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrrt.analysis.evidence import Case
from lrrt.analysis.statistics import log_quantiles, usable
from lrrt.report import style, wording
from lrrt.report.figures import ANSWER, _cells
from lrrt.report.study import StudyData, of_case

ORDER = 10
SECTION = ANSWER
SWEEP = "weights"
FEWEST = 4  # learning rates that make a line of accuracy over them
OTHER_RULE = "fastai_valley"


def chosen(data: StudyData) -> tuple[Case, pd.DataFrame] | None:
    """The case trained at most learning rates, its trainings at a constant one (columns ``lr``,
    ``lr_kind``, ``outcome``, ``accuracy``: the best of the validation accuracies)."""
    rows = data.cells()
    rows = rows.assign(accuracy=rows["best_val_accuracy"].fillna(0.0))
    counts = {
        case: mine["lr"].nunique()
        for case in _cells.cases(data, rows)
        if (mine := of_case(rows, case))["lr_kind"].nunique() > 1
    }
    case = max(counts, key=counts.get, default=None)
    return None if case is None or counts[case] < FEWEST else (case, of_case(rows, case))


def suggestions(data: StudyData, case: Case) -> dict[str, pd.Series]:
    """By what it is, the usable suggestions of the weights sweep: the protocol's minimum and
    maximum, and between them another finder's."""
    rows = of_case(data.suggestions[data.suggestions["sweep"] == SWEEP], case)
    rows = rows[rows["batch_size"] == data.config.sweep.batch_size]
    own = rows[rows["rule"] == data.config.protocols[case[1]].rule]
    other = rows[rows["rule"] == OTHER_RULE]
    found = {
        wording.name("min_lr"): own["min_lr"],
        OTHER_RULE.replace("_", " "): other["max_lr"],
        wording.name("max_lr"): own["max_lr"],
    }
    return {name: values for name, values in found.items() if len(usable(values))}


def title(data: StudyData) -> str:
    _, rows = chosen(data)
    failed, at_max = rows["outcome"] != "trains", rows["lr_kind"] == "max"
    below = rows.loc[rows["lr"] < rows.loc[at_max, "lr"].min()]
    lower = int((below["outcome"] != "trains").sum())
    return (
        f"At suggested maxima {int((failed & at_max).sum())} of {int(at_max.sum())} trainings "
        f"failed; at lower learning rates {lower or 'none'} of {len(below)} did"
    )


def caption(data: StudyData) -> str:
    case, rows = chosen(data)
    return (
        f"Each mark is a training of {rows['epochs'].max()} epochs at a constant learning rate "
        f"(n = {len(rows)}, {rows['weights_seed'].nunique()} initial weights, "
        f"{wording.case(*case)}); failed: diverged, stalled or lagging. Below: what "
        "the finder suggests, median and 10 to 90 % of its runs, with their ratio."
    )


def draw(data: StudyData) -> Figure | None:
    found = chosen(data)
    if found is None:
        return None
    case, rows = found
    bars = suggestions(data, case)
    figure, grid = style.axes(
        2, 1, (style.WIDTH, 4.6), sharex=True, height_ratios=[3, 0.25 + 0.3 * len(bars)]
    )
    upper, lower = grid[:, 0]
    for row in rows.itertuples():
        _cells.dot(upper, row, row.lr, row.accuracy)
    _cells.guess(upper, data)
    upper.set(ylabel="best validation accuracy")
    style.outcome_legend(upper, rows["outcome"], loc="lower left", bbox_to_anchor=(0, 0.2))
    low, high = data.config.report.loss_quantiles
    for place, (name, values) in enumerate(reversed(bars.items())):
        suggestion_bar(lower, place, name, log_quantiles(values, [low, 0.5, high]), case)
    lower.set(yticks=range(len(bars)), yticklabels=reversed(bars), ylim=(-0.6, len(bars) - 0.4))
    lower.grid(False, axis="y")
    style.log_axis(lower)
    left, right = lower.get_xlim()
    lower.set_xlim(left, right * 6)  # room for what is written at the bars
    return figure


def suggestion_bar(ax: Axes, place: float, name: str, quantiles, case: Case) -> None:
    """The bar of 10 to 90 % of the runs, the median, and how many times the one end is the
    other."""
    low, median, high = quantiles
    words = f"{wording.number(median)}, {wording.times(high / low)}"
    ax.plot(
        [low, high],
        [place] * 2,
        color=style.colour(*case),
        linewidth=7,
        alpha=0.45,
        gid=style.tip(f"{name}: {wording.number(low)} to {wording.number(high)}, median {words}"),
    )
    ax.plot([median], [place], "|", color=style.INK, markersize=13, markeredgewidth=2)
    ax.annotate(words, (high, place), (8, 0), textcoords="offset points", va="center", fontsize=8)
