"""The figure of one sweep of one case: the band of the loss, and every run's suggested range."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrrt.analysis.evidence import Case
from lrrt.analysis.ranges import both_lrs, with_range
from lrrt.analysis.statistics import are_usable, log_quantiles
from lrrt.report import style, wording
from lrrt.report.study import StudyData
from lrrt.report.wording import number

QUANTITIES = ("max_lr", "min_lr")
LINES = 40  # no more runs than these are drawn as thin lines under the band


def caption(data: StudyData, sweep: str, what_changes: str, case: Case) -> str:
    rows = data.suggested(sweep, case)
    low, high = data.config.report.loss_quantiles
    parts = []
    for quantity in reversed(QUANTITIES):
        q = log_quantiles(rows[quantity], [low, 0.5, high])
        words = f"{wording.name(quantity)}: median {number(q[1])} [{number(q[0])}, {number(q[2])}]"
        parts.append(words)
    notes = ""
    fallback = int(rows["fallback"].astype(bool).sum())
    if fallback:
        notes += f" In {fallback} of {len(rows)} runs min LR is the rule's fallback, max LR / 10."
    wrong = len(both_lrs(rows)) - len(with_range(rows))
    if wrong:
        notes += f" In {wrong} of {len(rows)} runs min LR is above max LR, which is no range."
    abstained = int(rows["max_lr"].isna().sum())
    if abstained:
        notes += f" In {abstained} of {len(rows)} runs the rule suggests no max LR."
    return (
        f"n = {len(rows)} range tests with {what_changes} each. Line: median smoothed training "
        f"loss; band and bars: {low:.0%} to {high:.0%} quantiles across runs (they describe the "
        f"runs and are no confidence interval); thin lines and dots: the runs. "
        f"{'; '.join(parts)}.{notes}"
    )


def draw(data: StudyData, sweep: str, case: Case) -> Figure | None:
    traces = data.traces(sweep, case)
    if not traces:
        return None
    batch_size = traces[0].batch_size
    traces = [trace for trace in traces if trace.batch_size == batch_size]
    band = data.band(sweep, case, batch_size)
    rows = data.suggested(sweep, case)
    rows = rows[rows["batch_size"] == batch_size]
    shade = style.colour(*case)
    low, high = data.config.report.loss_quantiles
    figure, grid = style.axes(2, 1, (6.4, 4.7), sharex=True, height_ratios=[3, 1.1])
    upper, lower = grid[:, 0]
    top = style.loss_axis(upper, [trace.smoothed[0] for trace in traces])
    upper.fill_between(
        band["lr"],
        style.below(band["low"], top),
        style.below(band["high"], top),
        color=shade,
        alpha=0.22,
        linewidth=0,
        label=f"{low:.0%} to {high:.0%} of runs",
    )
    for trace in traces if len(traces) <= LINES else []:
        upper.plot(
            trace.lr,
            style.below(trace.smoothed, top),
            color=shade,
            alpha=0.45,
            linewidth=0.7,
            gid=style.tip(run_words(trace)),
        )
    upper.plot(
        band["lr"],
        style.below(band["median"], top),
        color=shade,
        linewidth=2.2,
        label=f"median of {len(traces)} runs",
    )
    upper.set_ylabel("smoothed training loss (nats)")
    upper.legend(loc="lower left")
    ranges(lower, rows, [low, 0.5, high], {name: shade for name in QUANTITIES})
    style.log_axis(lower)
    lower.set_xlim(band["lr"].min(), band["lr"].max())
    return figure


def run_words(run) -> str:
    """Which run it is, for hovering; ``run`` is a trace or a row of a table."""
    return f"run {run.run}: weights seed {run.weights_seed}, order seed {run.order_seed}"


def ranges(ax: Axes, rows: pd.DataFrame, quantiles: list[float], shades: dict[str, str]) -> None:
    """Min and max LR of each run, one line per quantity: dots, bar of quantiles, median."""
    for position, quantity in enumerate(QUANTITIES):
        values = rows[are_usable(rows[quantity])]
        low, median, high = log_quantiles(values[quantity], quantiles)
        shade = shades[quantity]
        words = (
            f"{wording.name(quantity)}, n = {len(values)}: median {number(median, 3)}, "
            f"bar {number(low, 3)} to {number(high, 3)}"
        )
        ax.plot(
            [low, high], [position] * 2, color=shade, linewidth=8, alpha=0.25, gid=style.tip(words)
        )
        tips = [
            f"{run_words(run)}: {wording.name(quantity)} {number(getattr(run, quantity), 3)}"
            + (" (fallback)" if quantity == "min_lr" and run.fallback else "")
            for run in values.itertuples()
        ]
        style.dots(
            ax,
            values[quantity].to_numpy(float),
            position + style.jitter(len(values)),
            tips,
            color=shade,
            alpha=0.8,
        )
        ax.plot([median], [position], "|", color=style.INK, markersize=20, markeredgewidth=2)
    ax.set(
        yticks=range(len(QUANTITIES)),
        yticklabels=[wording.name(q) for q in QUANTITIES],
        ylim=(-0.6, len(QUANTITIES) - 0.4),
    )
    ax.grid(False, axis="y")
