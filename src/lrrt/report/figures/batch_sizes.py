"""Curves by batch size, raw and smoothed: does the loss fall less, or only its average?"""

import numpy as np
from matplotlib.figure import Figure

from lrrt.analysis.evidence import Trace
from lrrt.analysis.statistics import WINDOW, column_quantiles, running_median
from lrrt.report import style, wording
from lrrt.report.study import StudyData

ORDER = 110
SECTION = "Batch size"
TITLE = "Batch sizes, raw and smoothed"
NEEDS = "a batch_size or batch_size_epoch sweep with two batch sizes"
SWEEPS = {"batch_size": "the same number of steps", "batch_size_epoch": "one epoch each"}


def cases(data: StudyData) -> list[tuple[str, str, str]]:
    return [
        (sweep, *case)
        for sweep in SWEEPS
        for case in data.cases(sweep)
        if len({trace.batch_size for trace in data.traces(sweep, case)}) > 1
    ]


def title(case: tuple[str, str, str]) -> str:
    sweep, *rest = case
    return f"{TITLE}, {SWEEPS[sweep]}: {wording.case(*rest)}"


def _by_size(data: StudyData, case: tuple[str, str, str]) -> dict[int, list[Trace]]:
    groups: dict[int, list] = {}
    for trace in data.traces(case[0], case[1:]):
        groups.setdefault(trace.batch_size, []).append(trace)
    return groups


def _views(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """The recorded loss without lag, and smoothed."""
    return running_median(trace.loss), trace.smoothed


def caption(data: StudyData, case: tuple[str, str, str]) -> str:
    groups = _by_size(data, case)
    parts, falls = [], []
    for size, traces in groups.items():
        parts.append(f"{size} (n = {len(traces)}, {len(traces[0].lr)} steps)")
        lowest = [
            [
                np.min(values, initial=values[0], where=np.isfinite(values)) / values[0]
                for values in _views(trace)
            ]
            for trace in traces
        ]
        falls.append("{}: {:.0%} and {:.0%}".format(size, *np.median(lowest, axis=0)))
    return (
        f"Batch sizes {', '.join(parts)}. Left: median across runs of the raw training loss that "
        f"the finder records, under a centred running median of {WINDOW} steps, which does not "
        "lag. Right: median of the smoothed loss (EMA, 0.98). Dots: each run's suggested max LR, "
        "their height only keeps batch sizes apart. Lowest loss over the first, "
        f"left and right, median of runs: {'; '.join(falls)}."
    )


def draw(data: StudyData, case: tuple[str, str, str]) -> Figure | None:
    groups = _by_size(data, case)
    if len(groups) < 2:
        return None
    figure, grid = style.axes(1, 2, (8.6, 3.6), sharex=True, sharey=True)
    starts = [trace.loss[0] for traces in groups.values() for trace in traces]
    top = style.loss_axis(grid[0, 0], starts, 1.4)
    rows = data.suggested(case[0], case[1:])
    shades = style.SCALE(np.linspace(0, 1, len(groups)))
    for level, ((size, traces), shade) in enumerate(zip(groups.items(), shades, strict=True)):
        for ax, views in zip(grid[0], zip(*map(_views, traces), strict=True), strict=True):
            median = column_quantiles(np.stack(views), [0.5])[0]
            ax.plot(
                traces[0].lr,
                style.below(median, top),
                color=shade,
                label=f"{size}",
                gid=style.tip(f"batch {size}, median of {len(traces)} runs"),
            )
        own = rows[(rows["batch_size"] == size) & rows["max_lr"].notna()]
        tips = [
            f"batch {size}, weights seed {run.weights_seed}: max LR {wording.number(run.max_lr, 3)}"
            for run in own.itertuples()
        ]
        heights = np.full(len(own), top * (0.03 + 0.035 * level))
        style.dots(grid[0, 1], own["max_lr"].to_numpy(float), heights, tips, color=shade)
    for ax, words in zip(grid[0], ("raw (running median)", "smoothed (EMA)"), strict=True):
        style.log_axis(ax)
        ax.set_title(words)
    lrs = next(iter(groups.values()))[0].lr
    grid[0, 0].set(ylabel="training loss (nats)", xlim=(lrs[0], lrs[-1]))
    grid[0, 0].legend(
        title="batch size",
        loc="lower left",
        ncols=1 + (len(groups) > 4),
        framealpha=0.9,
        bbox_to_anchor=(0, 0.02),
    )
    return figure
