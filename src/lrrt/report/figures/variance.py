"""How much of the spread is left when the weights, or the batches, are the same in all runs."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.analysis.crossed import by_weights_and_batches, remaining_spread_interval
from lrrt.analysis.ranges import QUANTITIES
from lrrt.report import style, wording
from lrrt.report.figures import APPENDIX, _trainings
from lrrt.report.study import StudyData, of_case

ORDER = 220
SECTION = APPENDIX
RUNS_OF = "variance"
WEIGHTS, BATCHES = "weights", ("order:augmentation", "order")


def remaining_spread(data: StudyData) -> pd.DataFrame:
    """The rows of what fixing the weights, and fixing the batches, leaves; ``what`` names it."""
    rows = data.variance_spread
    batches = next((name for name in BATCHES if (rows["fixed"] == name).any()), "")
    rows = rows[rows["fixed"].isin([WEIGHTS, batches])]
    rows = rows.assign(what=np.where(rows["fixed"] == WEIGHTS, "same weights", "same batches"))
    rows = rows[np.isfinite(rows["ratio"].astype(float))]
    ends = [_interval(data, row) for row in rows.itertuples()]
    return rows.assign(low=[low for low, _ in ends], high=[high for _, high in ends])


def _interval(data: StudyData, row) -> tuple[float, float]:
    """Of what is left, by :func:`lrrt.analysis.crossed.remaining_spread_interval`."""
    runs = of_case(data.variance_runs, (row.backend, row.protocol))
    table = by_weights_and_batches(runs[runs["depth"] == row.depth], row.quantity).to_numpy()
    if min(table.shape) < 2:
        return np.nan, np.nan
    return remaining_spread_interval(table if row.fixed == WEIGHTS else table.T)


def title(data: StudyData) -> str:
    rows = remaining_spread(data).query("fixed == @WEIGHTS and quantity == 'max_lr'")
    parts = [
        f"{wording.percent(row.ratio)} ({wording.name(row.protocol)})" for row in rows.itertuples()
    ]
    return f"The same initial weights leave {wording.listed(parts)} of the spread of max LR"


def caption(data: StudyData) -> str:
    settings = data.config.variance
    return (
        f"All combinations of {settings.weights} initial weights and {settings.orders} orders of "
        "the batches. A bar is the standard deviation of log10 LR that remains when the named "
        "factor is the same in all runs; 100 % is that with everything new. Lines: 95 % intervals, "
        "which are wide because few levels say little about a variance."
    )


def draw(data: StudyData) -> Figure | None:
    rows = remaining_spread(data)
    if not len(rows):
        return None
    cases = _trainings.cases(data, rows)
    lines = [(case, what) for case in cases for what in dict.fromkeys(rows["what"])]
    figure, grid = style.axes(
        1, len(QUANTITIES), (style.WIDTH, 1.0 + 0.42 * len(lines)), sharex=True, sharey=True
    )
    for ax, quantity in zip(grid[0], QUANTITIES, strict=True):
        for place, (case, what) in enumerate(lines):
            mine = of_case(rows, case).query("quantity == @quantity and what == @what")
            for row in mine.itertuples():
                ax.barh(
                    place,
                    row.ratio,
                    height=0.6,
                    color=style.colour(*case),
                    alpha=0.6,
                    linewidth=0,
                    gid=style.tip(f"{what}: {wording.percent(row.ratio)}, n = {row.n}"),
                )
                ax.plot([row.low, row.high], [place] * 2, color=style.INK, linewidth=1.2)
        ax.set(title=wording.name(quantity), xlim=(0, 1.04), xlabel="spread left")
        _trainings.accuracy_axis(ax, "x")
        ax.grid(False, axis="y")
    names = [f"{wording.name(case[1])},\n{what}" for case, what in lines]
    grid[0, 0].set(yticks=range(len(lines)), yticklabels=names, ylim=(len(lines) - 0.4, -0.6))
    return figure
