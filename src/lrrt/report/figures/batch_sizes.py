"""Does the loss fall less at larger batches, or only its average?"""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lrrt.analysis.statistics import running_median
from lrrt.claims.study import Case
from lrrt.report import style, wording
from lrrt.report.figures import APPENDIX
from lrrt.report.study import StudyData

ORDER = 280
SECTION = APPENDIX
SWEEPS = {"batch_size": "equal steps", "batch_size_epoch": "one epoch each"}


def panels(data: StudyData) -> list[tuple[str, Case]]:
    return [
        (sweep, case)
        for sweep in SWEEPS
        for case in data.cases(sweep)
        if len({trace.batch_size for trace in data.traces(sweep, case)}) > 1
    ]


def falls(data: StudyData, sweep: str, case: Case) -> pd.DataFrame:
    """By run and ``kind`` (raw, smoothed), the share by which the loss falls to its lowest."""
    rows = []
    for trace in data.traces(sweep, case):
        for kind, loss in (("raw", running_median(trace.loss)), ("smoothed", trace.smoothed)):
            lowest = np.min(loss, initial=loss[0], where=np.isfinite(loss))
            rows.append((trace.batch_size, kind, 1 - lowest / loss[0]))
    return pd.DataFrame(rows, columns=["batch size", "kind", "fall"])


def title(data: StudyData) -> str:
    sweep, case = panels(data)[-1]
    found = falls(data, sweep, case).groupby(["kind", "batch size"])["fall"].median().unstack()
    drop = (found.iloc[:, 0] - found.iloc[:, -1]) * 100
    words = {
        kind: f"{abs(points):.0f} points {'less' if points > 0 else 'more'}"
        for kind, points in drop.items()
    }
    return (
        f"With the largest instead of the smallest batch ({SWEEPS[sweep]}) the smoothed loss falls "
        f"{words['smoothed']}, the raw loss {words['raw']}"
    )


def caption(data: StudyData) -> str:
    n = sum(len(data.traces(sweep, case)) for sweep, case in panels(data))
    return (
        "How far the loss falls from its start, by batch size; solid: raw loss under a running "
        f"median, dashed: smoothed. Points: medians of the runs, bars: all of them (n = {n})."
    )


def draw(data: StudyData) -> Figure | None:
    found = panels(data)
    if not found:
        return None
    sweeps, handles = list(dict.fromkeys(sweep for sweep, _ in found)), {}
    figure, grid = style.axes(1, len(sweeps), (style.WIDTH, 2.9), sharey=True)
    for ax, sweep in zip(grid[0], sweeps, strict=True):
        for case in (case for name, case in found if name == sweep):
            rows = falls(data, sweep, case)
            for kind, dashes in (("raw", "-"), ("smoothed", "--")):
                sns.pointplot(
                    rows[rows["kind"] == kind],
                    x="batch size",
                    y="fall",
                    estimator="median",
                    errorbar=("pi", 100),
                    color=style.colour(*case),
                    linestyle=dashes,
                    linewidth=1.4,
                    markersize=3,
                    ax=ax,
                )
                looks = {"color": style.colour(*case), "linestyle": dashes}
                handles[f"{wording.name(case[0])}, {kind}"] = Line2D([], [], **looks)
        ax.set_title(SWEEPS[sweep])
        ax.set_ylabel("fall of the loss")
        ax.yaxis.set_major_formatter(lambda value, _: wording.percent(value))
    figure.legend(handles.values(), handles.keys(), ncols=2, handlelength=3)
    return figure
