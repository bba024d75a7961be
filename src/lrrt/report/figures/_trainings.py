"""The trainings after the range tests: which there are, how a person calls them, how they look."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from lrrt.claims.study import Case
from lrrt.report import style, wording
from lrrt.report.study import StudyData


def cases(data: StudyData, table: pd.DataFrame) -> list[Case]:
    """The (backend, protocol) pairs of ``table``, those at home first."""
    found = table[["backend", "protocol"]].drop_duplicates().itertuples(index=False, name=None)
    return sorted(found, key=lambda case: (not data.is_home(case), case))


def of_first_pair(table: pd.DataFrame, case: Case) -> pd.DataFrame:
    """The rows of the pair furthest apart; no other pair of the case has more trainings."""
    return table[table["pair"] == "-".join(case)]


def lr_words(lr_of: str, lr_kind: str) -> str:
    """Whose LR it is: "A's max", "reference"."""
    return lr_kind if lr_of == "reference" else f"{lr_of}'s {lr_kind}"


def weights_words(row) -> str:
    """Whose weights, and by which way: "weights A, from PyTorch"; ``row`` is of either table."""
    source = f", from {wording.name(row.weights_from)}" if row.weights_from else ""
    return f"weights {row.weights}{source}"


def hover(row) -> str:
    """One row of trainings or outcomes in words."""
    policy = "" if row.policy == "constant" else f", {wording.name(row.policy)}"
    return (
        f"{weights_words(row)} (seed {row.weights_seed}), {lr_words(row.lr_of, row.lr_kind)} LR "
        f"{wording.number(row.lr, 3)}{policy}"
    )


def outcome_hover(row) -> str:
    """One row of outcomes in words, with what became of it."""
    accuracy = wording.number(row.final_val_accuracy, 3)
    return f"{hover(row)}: {row.outcome}, validation accuracy {accuracy}. {row.reason}"


def dot(ax: Axes, row, x: float, y: float, **looks) -> None:
    """One training: the colour of its case, the marker of what became of it."""
    looks = {
        "color": style.colour(row.backend, row.protocol),
        "alpha": 0.8,
        "markersize": 6,
        "markeredgewidth": 0.8,
        **looks,
    }
    ax.plot([x], [y], style.MARKERS[row.outcome], gid=style.tip(outcome_hover(row)), **looks)


def accuracy_axis(ax: Axes, which: str = "y") -> None:
    """An axis of shares, in percent."""
    axis = ax.yaxis if which == "y" else ax.xaxis
    axis.set_major_formatter(FuncFormatter(lambda share, _: wording.percent(share)))


def guess(ax: Axes, data: StudyData, which: str = "y") -> None:
    """An axis of accuracy in percent, with a line where guessing lies."""
    accuracy_axis(ax, which)
    classes = len(data.dataset.get("images_by_class", {}).get("train", {})) or 10
    if which == "x":
        ax.axvline(1 / classes, color=style.MUTED, linestyle=":", linewidth=1)
        return
    ax.axhline(1 / classes, color=style.MUTED, linestyle=":", linewidth=1)
    ax.text(
        0.01,
        1 / classes,
        "guessing",
        transform=ax.get_yaxis_transform(),
        color=style.MUTED,
        fontsize=8,
        va="bottom",
    )
    ax.set_ylim(-0.03, None)
