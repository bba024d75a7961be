"""How the suggested LR grows with the batch size, against the two usual scalings."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.experiments.sweep.dispersion import batch_size_slopes
from lrrt.report import style, wording
from lrrt.report.figures import batch_sizes
from lrrt.report.study import StudyData, of_case
from lrrt.report.wording import number

ORDER = 120
SECTION = "Batch size"
TITLE = "Suggested max LR against batch size"
NEEDS = "a batch_size or batch_size_epoch sweep with two batch sizes and three suggestions a case"
QUANTITY = "max_lr"


def slopes(data: StudyData) -> pd.DataFrame:
    """The rows of :func:`batch_size_slopes` for max LR, in the sweeps drawn here."""
    table = batch_size_slopes(data.own)
    return table[(table["quantity"] == QUANTITY) & table["sweep"].isin(batch_sizes.SWEEPS)]


def caption(data: StudyData) -> str:
    parts = [
        f"{wording.case(row.backend, row.protocol)}, {batch_sizes.SWEEPS[row.sweep]}: "
        f"{row.slope:.2f} [{row.low:.2f}, {row.high:.2f}] (n = {row.n})"
        for row in slopes(data).itertuples()
    ]
    return (
        "Every dot is a run. Lines: least squares of log10 max LR on log10 batch size. Dashed, "
        "through the middle of each fit: slope 1 (linear scaling) and 1/2 (square root). Slopes "
        f"with 95 % intervals (Student's t): {'; '.join(parts)}."
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
        (1.4 + 2.3 * len(cases), 0.5 + 2.7 * len(sweeps)),
        sharex=True,
        sharey=True,
    )
    for line, sweep in zip(grid, sweeps, strict=True):
        for ax, case in zip(line, cases, strict=True):
            rows = data.suggested(sweep, case)
            rows = rows[rows[QUANTITY] > 0]
            shade = style.colour(*case)
            fit = of_case(table[table["sweep"] == sweep], case)
            if len(fit):
                slope = float(fit["slope"].iloc[0])
                size, lr = np.log10(rows["batch_size"]), np.log10(rows[QUANTITY])
                ends = np.array([size.min(), size.max()])
                for value, looks in (
                    (1.0, {"color": style.MUTED, "linestyle": "--", "linewidth": 1}),
                    (0.5, {"color": style.MUTED, "linestyle": ":", "linewidth": 1.2}),
                    (slope, {"color": shade}),
                ):
                    ax.plot(
                        10**ends,
                        10 ** (lr.mean() + value * (ends - size.mean())),
                        gid=style.tip(f"slope {value:.2f}"),
                        **looks,
                    )
            tips = [
                f"batch {run.batch_size}, weights seed {run.weights_seed}: {number(run.max_lr, 3)}"
                for run in rows.itertuples()
            ]
            style.dots(ax, rows["batch_size"], rows[QUANTITY], tips, color=shade, alpha=0.8)
            style.log_axis(ax, text="batch size" if sweep == sweeps[-1] else "")
            style.log_axis(ax, "y", "suggested max LR" if case == cases[0] else "", subdivided=True)
            sizes = sorted(rows["batch_size"].unique())
            ax.set_xticks(sizes, labels=[f"{size}" for size in sizes])
            words = wording.case(*case).replace(", ", "\n")
            ax.set_title(f"{words}\n{batch_sizes.SWEEPS[sweep]}", fontsize=9)
    return figure
