"""The trainings behind the outcomes, epoch by epoch."""

import numpy as np
from matplotlib.figure import Figure

from lrrt.report import style
from lrrt.report.figures import _cells
from lrrt.report.study import StudyData

ORDER = 90
SECTION = "A's range on B's weights"
TITLE = "Training curves of weights A and B"
NEEDS = "trainings of the divergence stage"
PANELS = {"train_loss": "training loss (nats)", "val_accuracy": "validation accuracy"}


def cases(data: StudyData) -> list[tuple[str, str]]:
    return _cells.cases(data, data.trainings)


def title(backend: str, protocol: str) -> str:
    return f"{TITLE}: {style.label(backend, protocol)}"


def caption(data: StudyData, backend: str, protocol: str) -> str:
    rows = _cells.of_case(data.trainings, backend, protocol)
    steps = data.config.divergence.steps_per_epoch
    length = f"{steps} steps" if steps else "all training images"
    return (
        f"n = {rows['training'].nunique()} trainings; an epoch is {length}. Upper: mean training "
        "loss of the epoch's steps, axis cut; lower: accuracy on the test images after it. Solid: "
        "A's learning rates, dashed: B's, dotted: the reference or both. Darker is larger; a cross "
        "marks where a loss became infinite or NaN and the training stopped."
    )


def draw(data: StudyData, backend: str, protocol: str) -> Figure | None:
    rows = _cells.of_case(data.trainings, backend, protocol)
    if not len(rows):
        return None
    weights = sorted(rows["weights"].unique())
    figure, grid = style.axes(
        len(PANELS), len(weights), (9.4, 5.4), sharex=True, sharey="row"
    )
    lrs = np.sort(rows["lr"].unique())
    shades = dict(zip(lrs, style.SCALE(np.linspace(0, 1, len(lrs))), strict=True))
    top = 2.0 * float(rows.loc[rows["epoch"] == 1, "train_loss"].median())
    top = top if np.isfinite(top) and top > 0 else 10.0
    labelled = set()
    for _, training in rows.groupby("training", sort=False):
        training = training.sort_values("epoch")
        row = next(training.itertuples())
        column = weights.index(row.weights)
        dash = {"A": "-", "B": "--"}.get(row.lr_of, ":")
        key = f"{_cells.lr_words(row.lr_of, row.lr_kind)}, {style.number(row.lr)}"
        words = _cells.hover(row)
        for ax, name in zip(grid[:, column], PANELS, strict=True):
            finished = training[np.isfinite(training[name])]
            values = finished[name].to_numpy(float)
            ax.plot(finished["epoch"], style.below(values, top), dash, color=shades[row.lr],
                    marker="o", markersize=3, linewidth=1.4,
                    label=key if key not in labelled else None, gid=style.tip(words))  # fmt: skip
            if len(finished) < len(training):
                place = 0.97 if name == "train_loss" else 0.03
                ax.plot([len(finished) + 1], [place], "x", color=shades[row.lr], markersize=8,
                        markeredgewidth=2, transform=ax.get_xaxis_transform(),
                        gid=style.tip(f"{words}: stopped"))  # fmt: skip
        labelled.add(key)
    for column, letter in enumerate(weights):
        grid[0, column].set_title(f"weights {letter}")
        grid[-1, column].set_xlabel("epoch")
    for line, (name, text) in zip(grid, PANELS.items(), strict=True):
        line[0].set_ylabel(text)
        line[0].set_ylim((0, top) if name == "train_loss" else (0, 1.02))
    last = int(rows["epoch"].max())
    grid[-1, 0].set(xticks=range(1, last + 1, max(1, last // 8)), xlim=(0.7, last + 0.3))
    handles = {}
    for ax in grid[0]:
        for handle, text in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(text, handle)
    order = sorted(handles, key=lambda text: float(text.rsplit(", ", 1)[1]))
    figure.legend([handles[text] for text in order], order, loc="outside right upper",
                  title="learning rate of")  # fmt: skip
    return figure
