"""The trainings behind the outcomes, epoch by epoch."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.claims.study import Case
from lrrt.report import style, wording
from lrrt.report.figures import APPENDIX, _trainings
from lrrt.report.study import StudyData

ORDER = 270
SECTION = APPENDIX


def cases(data: StudyData) -> list[Case]:
    return _trainings.cases(data, data.trainings)


def _rows(data: StudyData, case: Case) -> pd.DataFrame:
    rows = _trainings.of_first_pair(data.trainings, case)
    return rows[rows["policy"].eq("constant") & rows["weights_from"].eq("")]


def title(data: StudyData, case: Case) -> str:
    best = _rows(data, case).groupby("training").agg({"val_accuracy": "max", "lr": "first"})
    best = best.sort_values("val_accuracy", na_position="first")
    worst, top = (
        f"{wording.percent(row.val_accuracy)} (learning rate {wording.number(row.lr)})"
        for row in (best.iloc[0], best.iloc[-1])
    )
    return f"Of {len(best)} trainings of one pair the best reaches {top}, the worst {worst}"


def caption(data: StudyData, case: Case) -> str:
    rows = _rows(data, case)
    steps = data.config.divergence.steps_per_epoch
    return (
        f"{wording.case(*case)}: validation accuracy at a constant learning rate "
        f"(n = {rows['training'].nunique()} trainings; an epoch is "
        f"{f'{steps} steps' if steps else 'all training images'}). Opaque lines have larger "
        "learning rates; a cross: the loss was not finite and the training stopped."
    )


def draw(data: StudyData, case: Case) -> Figure | None:
    rows = _rows(data, case)
    if not len(rows):
        return None
    weights = sorted(rows["weights"].unique())
    figure, grid = style.axes(1, len(weights), (style.WIDTH, 3.0), sharex=True, sharey=True)
    shade = style.colour(*case)
    lrs = np.sort(rows["lr"].unique())
    alphas = dict(zip(lrs, np.linspace(0.35, 1, len(lrs)), strict=True))
    for ax, letter in zip(grid[0], weights, strict=True):
        labelled: list[float] = []
        for _, training in rows[rows["weights"] == letter].groupby("training", sort=False):
            training = training.sort_values("epoch")
            row = next(training.itertuples())
            looks = {
                "color": shade,
                "alpha": alphas[row.lr],
                "gid": style.tip(_trainings.hover(row)),
            }
            finished = training[np.isfinite(training["val_accuracy"])]
            ax.plot(finished["epoch"], finished["val_accuracy"], "o-", markersize=3, **looks)
            if len(finished) < len(training):
                ax.plot([len(finished) + 1], [0.0], "X", **looks)
                continue
            height = float(finished["val_accuracy"].iloc[-1])
            if all(abs(height - other) > 0.04 for other in labelled):
                labelled.append(height)
                ax.annotate(
                    wording.number(row.lr),
                    (finished["epoch"].iloc[-1], height),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7,
                )
        ax.set(title=f"weights {letter}", xlabel="epoch")
    _trainings.guess(grid[0, 0], data)
    grid[0, 0].set_ylabel("validation accuracy")
    last = int(rows["epoch"].max())
    grid[0, 0].set(xticks=range(1, last + 1, 1 + last // 9), xlim=(0.7, last * 1.15))
    return figure
