"""The trainings behind the outcomes, epoch by epoch."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.analysis.evidence import Case
from lrrt.report import style, wording
from lrrt.report.figures import _cells
from lrrt.report.study import StudyData

ORDER = 90
SECTION = "A's range on B's weights"
TITLE = "Training curves at the suggested learning rates"
NEEDS = "trainings of the divergence stage"
PANELS = {
    "train_loss": "training loss\n(nats)",
    "train_eval_loss": "the same, running\nstatistics (nats)",
    "val_accuracy": "validation\naccuracy",
}
LOSSES = ("train_loss", "train_eval_loss")
DASHES = {"A": "-", "B": "--", "reference": ":"}


def cases(data: StudyData) -> list[Case]:
    return _cells.cases(data, data.trainings)


def title(case: Case) -> str:
    return f"{TITLE}: {wording.case(*case)}"


def _rows(data: StudyData, case: Case) -> pd.DataFrame:
    rows = _cells.of_first_pair(data.trainings, case)
    return rows[rows["policy"] == "constant"]


def caption(data: StudyData, case: Case) -> str:
    rows = _rows(data, case)
    steps = data.config.divergence.steps_per_epoch
    length = f"{steps} steps" if steps else "all training images"
    other = (
        " Squares: weights passed through the other framework." if any(rows["weights_from"]) else ""
    )
    reference = rows["lr_of"].eq("reference").any()
    stopped = (
        " A cross marks where a loss was not finite and the training stopped."
        if rows["stopped_at_step"].notna().any()
        else ""
    )
    return (
        f"n = {rows['training'].nunique()} trainings at a constant LR; an epoch is {length}. "
        "Upper: mean training loss of the epoch's steps, by the statistics of each batch; middle: "
        "loss on training images after it, by batch norm's running ones (both axes cut); lower: "
        "accuracy on the test images, likewise. Solid: A's learning rates, dashed: B's"
        f"{', dotted: the reference' if reference else ''}; darker is larger.{stopped}{other}"
    )


def draw(data: StudyData, case: Case) -> Figure | None:
    rows = _rows(data, case)
    if not len(rows):
        return None
    weights = sorted(rows["weights"].unique())
    figure, grid = style.axes(len(PANELS), len(weights), (8.6, 6.6), sharex=True, sharey="row")
    lrs = np.sort(rows["lr"].unique())
    shades = dict(zip(lrs, style.SCALE(np.linspace(0, 1, len(lrs))), strict=True))
    firsts = rows.loc[rows["epoch"] == 1, "train_loss"]
    top = 2.0 * float(firsts.median()) if firsts.notna().any() else 10.0
    handles = {}
    for _, training in rows.groupby("training", sort=False):
        training = training.sort_values("epoch")
        row = next(training.itertuples())
        shade, words = shades[row.lr], _cells.hover(row)
        for ax, name in zip(grid[:, weights.index(row.weights)], PANELS, strict=True):
            finished = training[np.isfinite(training[name])]
            values = finished[name].to_numpy(float)
            (line,) = ax.plot(
                finished["epoch"],
                style.below(values, top),
                DASHES.get(row.lr_of, "-."),
                color=shade,
                marker="s" if row.weights_from else "o",
                markersize=5 if row.weights_from else 3,
                linewidth=1.4,
                gid=style.tip(words),
            )
            if len(finished) < len(training):
                height = 0.96 if name in LOSSES else 0.04
                ax.plot(
                    [len(finished) + 1],
                    [height],
                    "x",
                    color=shade,
                    markersize=8,
                    markeredgewidth=2,
                    transform=ax.get_xaxis_transform(),
                    gid=style.tip(f"{words}: stopped"),
                )
        text = f"{_cells.lr_words(row.lr_of, row.lr_kind)}, {wording.number(row.lr)}"
        handles.setdefault((row.lr, text), line)
    for column, letter in enumerate(weights):
        grid[0, column].set_title(f"weights {letter}")
        grid[-1, column].set_xlabel("epoch")
    for line, (name, text) in zip(grid, PANELS.items(), strict=True):
        line[0].set_ylabel(text)
        line[0].set_ylim((0, top) if name in LOSSES else (0, 1.02))
    last = int(rows["epoch"].max())
    grid[-1, 0].set(xticks=range(1, last + 1, 1 + last // 9), xlim=(0.7, last + 0.3))
    ordered = sorted(handles)
    figure.legend(
        [handles[key] for key in ordered],
        [text for _, text in ordered],
        loc="outside right upper",
        title="learning rate",
    )
    return figure
