"""Many range tests with new and with the same initial weights: how much one test varies."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrrt.analysis.spread import spread_of
from lrrt.analysis.statistics import MINIMUM_RUNS, are_usable, log_quantiles, usable
from lrrt.claims.study import Case
from lrrt.report import style, wording
from lrrt.report.figures import SPREAD
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 30
SECTION = SPREAD
SWEEPS = {"weights": "new initial weights", "order": "same initial weights"}
QUANTITIES = {"min_lr": 0.05, "max_lr": 0.13}  # the height of its dots, in shares of the axis


def panels(data: StudyData) -> list[list[tuple[str, Case]]]:
    """Rows of sweeps, columns of home cases."""
    cases = data.home_cases()
    return [[(sweep, case) for case in cases] for sweep in SWEEPS if data.cases(sweep)]


def ratio(data: StudyData, sweep: str, case: Case) -> float:
    """How many times the 90 % quantile of max LR is its 10 % quantile; NaN of few runs."""
    values = usable(_rows(data, sweep, case)["max_lr"])
    if len(values) < MINIMUM_RUNS:
        return np.nan
    low, high = log_quantiles(values, data.config.report.loss_quantiles)
    return float(high / low)


def _rows(data: StudyData, sweep: str, case: Case) -> pd.DataFrame:
    rows = data.own_suggestions(sweep, case)
    return rows[rows["batch_size"] == data.config.sweep.batch_size]


def title(data: StudyData) -> str:
    spreads = {
        case: spread_of(_rows(data, "weights", case)["max_lr"]) for case in data.home_cases()
    }
    words = [
        f"{wording.spread(found)} ({wording.name(case[0])})"
        for case, found in spreads.items()
        if found.n >= MINIMUM_RUNS
    ]
    if not words:
        return "Range tests that differ only in their seeds"
    return f"Repeated with new seeds, the suggested maximum varies: {'; '.join(words)}"


def caption(data: StudyData) -> str:
    counts = {len(_rows(data, sweep, case)) for row in panels(data) for sweep, case in row} - {0}
    n = wording.listed(map(str, sorted(counts)))
    fallen = [
        f"{int(rows['fallback'].astype(bool).sum())} of {len(rows)} ({wording.name(case[0])})"
        for case in data.home_cases()
        if (rows := _rows(data, "weights", case))["fallback"].astype(bool).any()
    ]
    fallback = (
        f" With new weights the rule's fallback, a tenth of max LR, stands in for min LR in "
        f"{wording.listed(fallen)} runs."
        if fallen
        else ""
    )
    return (
        f"Line and band: median smoothed loss and 10 to 90 % of the runs (n = {n} a panel); dots: "
        "each run's min LR (hollow) and max LR (filled). × is the ratio of the 90 to the 10 % "
        f"quantile of max LR, which describes the runs and is no confidence interval.{fallback}"
    )


def draw(data: StudyData) -> Figure | None:
    rows = panels(data)
    if not rows or not rows[0]:
        return None
    figure, grid = style.axes(
        len(rows), len(rows[0]), (style.WIDTH, 0.6 + 2.1 * len(rows)), sharex="col", sharey="col"
    )
    for axes, row in zip(grid, rows, strict=True):
        for ax, (sweep, case) in zip(axes, row, strict=True):
            _panel(ax, data, sweep, case)
    for ax, (_, case) in zip(grid[0], rows[0], strict=True):
        ax.set_title(wording.case(*case))
    for ax, row in zip(grid[:, 0], rows, strict=True):
        ax.set_ylabel(f"{SWEEPS[row[0][0]]}\nsmoothed loss (nats)")
    for ax in grid[:-1].flat:
        ax.set_xlabel("")
    return figure


def _panel(ax: Axes, data: StudyData, sweep: str, case: Case) -> None:
    traces = [t for t in data.traces(sweep, case) if t.batch_size == data.config.sweep.batch_size]
    if not traces:
        ax.set_axis_off()
        return
    shade = style.colour(*case)
    top = style.loss_axis(ax, [trace.smoothed[0] for trace in traces], 1.3)
    points = pd.DataFrame(
        {
            "lr": np.concatenate([trace.lr for trace in traces]),
            "loss": np.concatenate([style.below(trace.smoothed, top) for trace in traces]),
        }
    )
    low, high = data.config.report.loss_quantiles
    sns.lineplot(
        points,
        x="lr",
        y="loss",
        estimator="median",
        errorbar=("pi", 100 * (high - low)),
        color=shade,
        err_kws={"alpha": 0.25, "linewidth": 0},
        ax=ax,
    )
    rows = _rows(data, sweep, case)
    for quantity, height in QUANTITIES.items():
        values = rows[are_usable(rows[quantity])]
        tips = [
            f"{run_words(run)}: {wording.name(quantity)} {number(getattr(run, quantity), 3)}"
            + (" (fallback)" if quantity == "min_lr" and run.fallback else "")
            for run in values.itertuples()
        ]
        style.dots(
            ax,
            values[quantity].to_numpy(float),
            top * (height + style.jitter(len(values), 0.025)),
            tips,
            color=shade,
            alpha=0.8,
            markersize=4,
            markeredgewidth=0.7,
            markerfacecolor="white" if quantity == "min_lr" else shade,
        )
    if np.isfinite(ratio(data, sweep, case)):
        ax.text(
            0.03,
            0.3,
            f"max LR {wording.times(ratio(data, sweep, case))}",
            transform=ax.transAxes,
            weight="bold",
        )
    style.log_axis(ax, ticks=6)
    ax.set_xlim(traces[0].lr[0], traces[0].lr[-1])
    ax.set_ylabel("")


def run_words(run) -> str:
    """Which run it is, for hovering; ``run`` is a trace or a row of a table."""
    return f"run {run.run}: weights seed {run.weights_seed}, order seed {run.order_seed}"
