"""Learning-rate policies at the same maximum: which forgives one that is too high?"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from lrrt.claims import margins
from lrrt.report import style, wording
from lrrt.report.figures import TRAINED, _trainings
from lrrt.report.study import StudyData

ORDER = 50
SECTION = TRAINED
SIDES = {"B": ("lower maximum", "|"), "A": ("higher maximum", "D")}
WHAT = {
    "one_cycle": "one cycle: up to the maximum, then down to nothing",
    "triangular": "triangular: from a quarter of it up and down, three times",
    "warm_restarts": "warm restarts: down from it to nothing, three times",
}


def trainings(data: StudyData) -> pd.DataFrame:
    """Outcome rows at a max LR, own framework, all policies; of those pairs that were trained by
    several, at A's and at B's. With ``accuracy``: the best one, 0 of a training that stopped in its
    first epoch."""
    rows = data.outcomes
    rows = rows[(rows["lr_kind"] == "max") & (rows["weights_from"] == "")]
    rows = rows[rows.groupby(["pair", "policy"])["lr_of"].transform("nunique") == 2]
    rows = rows[rows.groupby("pair")["policy"].transform("nunique") > 1]
    return rows.assign(accuracy=rows["best_val_accuracy"].fillna(0.0))


def medians(data: StudyData) -> pd.DataFrame:
    """Median accuracy by policy (the index) at the lower maximum, ``B``, and the higher, ``A``."""
    rows = trainings(data)
    return rows.groupby(["policy", "lr_of"], sort=False)["accuracy"].median().unstack()


def title(data: StudyData) -> str:
    at_higher = medians(data)["A"]
    best, constant = at_higher.drop("constant").idxmax(), at_higher["constant"]
    if at_higher[best] < constant + margins.ACCURACY:
        return (
            f"No policy gains {wording.number(100 * margins.ACCURACY, 1)} points over a constant "
            f"learning rate at the higher maximum: {wording.percent(at_higher[best])} and "
            f"{wording.percent(constant)}"
        )
    return (
        f"{wording.name(best).capitalize()} forgives a maximum that is too high: "
        f"{wording.percent(at_higher[best])} instead of {wording.percent(constant)}"
    )


def caption(data: StudyData) -> str:
    rows = trainings(data)
    what = "; ".join(words for policy, words in WHAT.items() if policy in set(rows["policy"]))
    return (
        f"n = {len(rows)} trainings of {rows['pair'].nunique()} pairs of runs: both weights at the "
        "lower and at the higher of the two maxima that the pair suggests. Large marks: medians of "
        "the best validation accuracy, joined by a line; small marks: trainings, higher maximum "
        f"above, lower below. {what[0].upper()}{what[1:]}."
    )


def draw(data: StudyData) -> Figure | None:
    rows = trainings(data)
    policies = list(dict.fromkeys(rows["policy"]))
    if len(policies) < 2 or "constant" not in policies:
        return None
    middle = medians(data)
    figure, grid = style.axes(1, 1, (style.WIDTH, 1.2 + 0.75 * len(policies)))
    ax = grid[0, 0]
    for row in rows.itertuples():
        side = -0.2 if row.lr_of == "A" else 0.2
        aside = 0.06 * (1 if row.weights == "A" else -1)
        _trainings.dot(
            ax, row, row.accuracy, policies.index(row.policy) + side + aside, markersize=5
        )
    for place, policy in enumerate(policies):
        low, high = middle.loc[policy, ["A", "B"]]
        ax.plot([low, high], [place] * 2, color=style.INK, linewidth=1.2, zorder=3)
        for lr_of, (_, marker) in SIDES.items():
            value = middle.loc[policy, lr_of]
            ax.plot(
                [value], [place], marker, color=style.INK, markersize=9, markeredgewidth=2, zorder=4
            )
        ax.annotate(
            wording.percent(low),
            (low, place),
            (-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            weight="bold",
            path_effects=[withStroke(linewidth=3, foreground=style.PLATE)],
        )
    for words, marker in SIDES.values():
        ax.plot([], [], marker, color=style.INK, linestyle="none", label=f"median, {words}")
    for case in _trainings.cases(data, rows):
        ax.plot([], [], "o", color=style.colour(*case), linestyle="none", label=wording.case(*case))
    figure.legend(fontsize=8, ncols=2)
    ax.set(
        yticks=range(len(policies)),
        yticklabels=[wording.name(policy) for policy in policies],
        ylim=(len(policies) - 0.5, -0.5),
        xlim=(-0.03, 1.0),
        xlabel="best validation accuracy",
    )
    ax.grid(False, axis="y")
    _trainings.guess(ax, data, "x")
    return figure
