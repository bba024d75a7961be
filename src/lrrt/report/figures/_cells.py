"""The trainings after the range tests: which there are, and how a person calls them."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrrt.analysis.evidence import Case
from lrrt.report import style, wording
from lrrt.report.study import StudyData

MARKERS = {"A": "o", "B": "D"}  # of weights


def cases(data: StudyData, table: pd.DataFrame) -> list[Case]:
    """The (backend, protocol) pairs of ``table``, those at home first."""
    found = table[["backend", "protocol"]].drop_duplicates().itertuples(index=False, name=None)
    return sorted(found, key=lambda case: (not data.is_home(case), case))


def of_first_pair(table: pd.DataFrame, case: Case) -> pd.DataFrame:
    """The rows of the pair furthest apart; no other pair of the case has more trainings."""
    return table[table["pair"] == "-".join(case)]


def number_of(pair: str, case: Case) -> str:
    """Which of its case's pairs it is, the one furthest apart being ``1``."""
    return pair.removeprefix("-".join(case)).removeprefix("-") or "1"


def lr_words(lr_of: str, lr_kind: str) -> str:
    """Whose LR it is: "A's max", "reference"."""
    return lr_kind if lr_of == "reference" else f"{lr_of}'s {lr_kind}"


def weights_words(row) -> str:
    """Whose weights, and by which way: "weights A, from PyTorch"; ``row`` is of either table."""
    source = f", from {wording.name(row.weights_from)}" if row.weights_from else ""
    return f"weights {row.weights}{source}"


def hover(row) -> str:
    """One row of trainings or outcomes in words."""
    policy = "" if row.policy == "constant" else f", {row.policy}"
    return (
        f"{weights_words(row)} (seed {row.weights_seed}), {lr_words(row.lr_of, row.lr_kind)} LR "
        f"{wording.number(row.lr, 3)}{policy}"
    )


def outcome_hover(row) -> str:
    """One row of outcomes in words, with what became of it."""
    accuracy = wording.number(row.final_val_accuracy, 3)
    return f"{hover(row)}: {row.outcome}, validation accuracy {accuracy}. {row.reason}"


def dot(ax: Axes, row, x: float, y: float) -> None:
    """One training: the colour and shape of its weights, filled at the LR of the same run."""
    shade, own = style.WEIGHTS_COLOURS[row.weights], row.lr_of == row.weights
    ax.plot(
        [x],
        [y],
        MARKERS[row.weights],
        color=shade,
        markersize=7,
        alpha=0.85,
        markerfacecolor=shade if own else "white",
        zorder=3 if own else 2,
        gid=style.tip(outcome_hover(row)),
    )


def weights_legend(figure: Figure, ax: Axes) -> None:
    """What :func:`dot` draws, above the figure."""
    for weights, marker in MARKERS.items():
        shade = style.WEIGHTS_COLOURS[weights]
        for face, words in ((shade, "own"), ("white", "the other's")):
            ax.plot(
                [],
                [],
                marker,
                color=shade,
                linestyle="none",
                markerfacecolor=face,
                label=f"weights {weights}, {words} max LR",
            )
    columns = 4 if figure.get_figwidth() > 8.5 else 2
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=columns)
