"""How far the finder's smoothing moves the suggestion from where smoothing without lag has it."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.analysis.ranges import QUANTITIES
from lrrt.report import style, wording
from lrrt.report.figures import APPENDIX, _trainings
from lrrt.report.study import StudyData, of_case

ORDER = 230
SECTION = APPENDIX
SMOOTHINGS = {
    "two-sided": "two-sided average",
    "spline": "spline",
    "mean of runs": "mean of all runs",
}


def lags(data: StudyData) -> pd.DataFrame:
    """By case, smoothing and quantity, how many times too high the moving average puts the
    landmark: ``ratio`` with its interval ``low``, ``high``; ``n``."""
    table = data.instrument
    rows = table[(table["setting"] == "smoothing") & np.isfinite(table["effect"].astype(float))]
    names = {"effect": "ratio", "low": "high", "high": "low"}  # turned round: EMA against the other
    turned = {new: 10 ** -rows[old].astype(float) for old, new in names.items()}
    return rows.assign(**turned)


def title(data: StudyData) -> str:
    rows = lags(data).query("value == 'two-sided' and quantity == 'max_lr'")
    parts = [
        wording.times(row.ratio) + f" ({wording.name(row.protocol)})"
        if not row.low <= 1 <= row.high
        else f"no clear shift ({wording.name(row.protocol)})"
        for row in rows.itertuples()
    ]
    return f"Smoothing puts the lowest loss at too high a learning rate: {wording.listed(parts)}"


def caption(data: StudyData) -> str:
    return (
        "By how much the finder's moving average multiplies the learning rate of the steepest "
        "descent (min LR) and of the lowest loss (max LR), against three smoothings of the same "
        f"curves that do not lag (n = {lags(data)['n'].max()} runs paired by seed). Lines: 95 % t "
        "intervals."
    )


def draw(data: StudyData) -> Figure | None:
    rows = lags(data)
    if not len(rows):
        return None
    cases = _trainings.cases(data, rows)
    figure, grid = style.axes(1, len(QUANTITIES), (style.WIDTH, 2.6), sharex=True, sharey=True)
    for ax, quantity in zip(grid[0], QUANTITIES, strict=True):
        ax.axvline(1, color=style.MUTED, linewidth=0.9)
        for i, case in enumerate(cases):
            side = 0.24 * (i - (len(cases) - 1) / 2)
            shade = style.colour(*case)
            for row in of_case(rows, case).query("quantity == @quantity").itertuples():
                place = list(SMOOTHINGS).index(row.value) + side
                ax.plot([row.low, row.high], [place] * 2, color=shade, linewidth=1.4)
                ax.plot(
                    [row.ratio], [place], "o", color=shade, gid=style.tip(wording.times(row.ratio))
                )
                ax.annotate(
                    wording.times(row.ratio),
                    (row.high, place),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                )
            ax.plot([], [], "o-", color=shade, label=wording.case(*case))
        style.log_axis(ax, text=f"multiplies {wording.name(quantity)} by")
    right = 8 * float(rows["high"].max())
    grid[0, 0].set(
        yticks=range(len(SMOOTHINGS)),
        yticklabels=SMOOTHINGS.values(),
        ylim=(len(SMOOTHINGS) - 0.5, -0.5),
        xlim=(min(0.5, float(rows["low"].min()) / 1.5), right),
    )
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=len(handles))
    return figure
