"""How the suggested LR grows with the batch size, against the two usual scalings."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrrt.experiments.sweep.dispersion import batch_size_slopes
from lrrt.report import style, wording
from lrrt.report.figures import APPENDIX, batch_sizes
from lrrt.report.study import StudyData, of_case
from lrrt.report.wording import number

ORDER = 290
SECTION = APPENDIX
QUANTITY = "max_lr"


def slopes(data: StudyData) -> pd.DataFrame:
    """The rows of :func:`batch_size_slopes` for max LR, in the sweeps drawn here."""
    table = batch_size_slopes(data.own)
    return table[(table["quantity"] == QUANTITY) & table["sweep"].isin(batch_sizes.SWEEPS)]


def title(data: StudyData) -> str:
    rows = slopes(data)
    clear = rows[(rows["low"] > 0) | (rows["high"] < 0)]
    if not len(clear):
        return "No clear growth of the suggested maximum with the batch size"
    parts = [
        f"{number(10**row.slope)} ({wording.name(row.backend)}, {batch_sizes.SWEEPS[row.sweep]})"
        for row in clear.itertuples()
    ]
    return f"Ten times the batch multiplies max LR by {wording.listed(parts)}"


def caption(data: StudyData) -> str:
    parts = [
        f"{wording.case(row.backend, row.protocol)}, {batch_sizes.SWEEPS[row.sweep]} "
        f"{row.slope:.2f} [{row.low:.2f}, {row.high:.2f}] (n = {row.n})"
        for row in slopes(data).itertuples()
    ]
    return (
        "A dot is a run; solid: least squares of log10 max LR on log10 batch size; dashed: slope 1 "
        "(linear scaling), dotted: 1/2 (square root). Slopes with 95 % t intervals: "
        f"{'; '.join(parts)}."
    )


def draw(data: StudyData) -> Figure | None:
    table = slopes(data)
    if not len(table):
        return None
    sweeps = [sweep for sweep in batch_sizes.SWEEPS if sweep in set(table["sweep"])]
    cases = [case for case in data.cases(sweeps[0]) if len(of_case(table, case))]
    figure, grid = style.axes(
        len(sweeps),
        len(cases),
        (max(style.WIDTH, 1.3 + 1.4 * len(cases)), 0.5 + 2.2 * len(sweeps)),
        sharex=True,
        sharey=True,
    )
    for line, sweep in zip(grid, sweeps, strict=True):
        for ax, case in zip(line, cases, strict=True):
            rows = data.own_suggestions(sweep, case)
            fit = of_case(table[table["sweep"] == sweep], case)
            _panel(ax, rows[rows[QUANTITY] > 0], fit, style.colour(*case))
            if sweep == sweeps[0]:
                ax.set_title(wording.case(*case).replace(", ", ",\n"), fontsize=8.5)
        style.log_axis(line[0], "y", f"max LR, {batch_sizes.SWEEPS[sweep]}")
    for ax in grid[-1]:
        ax.set_xlabel("batch size")
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, fit: pd.DataFrame, shade: str) -> None:
    style.log_axis(ax, text="")
    style.log_axis(ax, "y", "")
    if len(fit):
        slope = float(fit["slope"].iloc[0])
        size, lr = np.log10(rows["batch_size"]), np.log10(rows[QUANTITY])
        ends = np.array([size.min(), size.max()])
        for value, looks in (
            (1.0, {"color": style.MUTED, "linestyle": "--", "linewidth": 1}),
            (0.5, {"color": style.MUTED, "linestyle": ":", "linewidth": 1.2}),
            (slope, {"color": shade}),
        ):
            y = 10 ** (lr.mean() + value * (ends - size.mean()))
            ax.plot(10**ends, y, gid=style.tip(f"slope {value:.2f}"), **looks)
    tips = [
        f"batch {run.batch_size}, weights seed {run.weights_seed}: {number(run.max_lr, 3)}"
        for run in rows.itertuples()
    ]
    style.dots(ax, rows["batch_size"], rows[QUANTITY], tips, color=shade, alpha=0.8)
    sizes = sorted(rows["batch_size"].unique())
    ax.set_xticks(sizes[:: 1 + len(sizes) // 4], labels=sizes[:: 1 + len(sizes) // 4])
