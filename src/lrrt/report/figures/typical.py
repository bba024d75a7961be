"""A typical range test: plateau, descent, explosion, and the range suggested."""

import numpy as np
from matplotlib.figure import Figure

from lrrt.analysis.evidence import Case, Trace
from lrrt.analysis.statistics import log_quantiles, running_median
from lrrt.report import style, wording
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 20
SECTION = "The range test"
TITLE = "A typical range test"
NEEDS = "a weights sweep with at least one suggestion"
PLATEAU_SHARE = 0.05  # the plateau ends where the smoothed loss has fallen by this share


def chosen(data: StudyData) -> tuple[Case, Trace, float, float] | None:
    """The case and the run: of the first case, the one whose max LR is nearest the median, with its
    min and max LR."""
    for case in data.cases("weights"):
        rows = data.suggested("weights", case).dropna(subset=["min_lr", "max_lr"])
        rows = rows[rows["max_lr"] > 0]
        if len(rows):
            median = log_quantiles(rows["max_lr"], [0.5])[0]
            row = rows.iloc[int(np.argmin(np.abs(np.log(rows["max_lr"] / median))))]
            trace = next(t for t in data.traces("weights", case) if t.run == row["run"])
            return case, trace, float(row["min_lr"]), float(row["max_lr"])
    return None


def regions(trace: Trace) -> tuple[float, float]:
    """LR at which the plateau ends, and at which the smoothed loss is lowest."""
    smoothed = np.where(np.isfinite(trace.smoothed), trace.smoothed, np.inf)
    lowest = int(np.argmin(smoothed))
    fallen = np.flatnonzero(smoothed[: lowest + 1] < (1 - PLATEAU_SHARE) * smoothed[0])
    first = int(fallen[0]) if len(fallen) else lowest
    return float(trace.lr[first]), float(trace.lr[lowest])


def caption(data: StudyData) -> str:
    case, trace, low, high = chosen(data)
    raw = float(trace.lr[int(np.argmin(running_median(trace.loss)))])
    return (
        f"One range test (n = 1): {wording.case(*case)}, weights seed "
        f"{trace.weights_seed}, batch {trace.batch_size}; the run whose max LR is nearest the "
        f"median of its sweep. Raw loss, as the finder records it, and its moving average (EMA, "
        f"0.98). Suggested range "
        f"{number(low)} to {number(high)}. The plateau ends where the average has fallen by "
        f"{PLATEAU_SHARE:.0%}; the explosion begins at its minimum. The average lags: the raw loss "
        f"(running median of five) is lowest at {number(raw)}. Loss axis cut."
    )


def draw(data: StudyData) -> Figure | None:
    found = chosen(data)
    if found is None:
        return None
    case, trace, low, high = found
    figure, grid = style.axes()
    ax = grid[0, 0]
    top = style.loss_axis(ax, [trace.loss[0]], 1.7)
    edges = [trace.lr[0], *regions(trace), trace.lr[-1]]
    for (name, shade), left, right in zip(
        style.REGIONS.items(), edges[:-1], edges[1:], strict=True
    ):
        ax.axvspan(left, right, color=shade, alpha=0.12, linewidth=0)
        narrow = right < 15 * left  # too narrow for its name, which then stands upright
        ax.text(
            np.sqrt(left * right),
            0.97,
            name,
            transform=ax.get_xaxis_transform(),
            ha="center",
            va="top",
            color=style.INK,
            rotation=90 if narrow else 0,
        )
    shade = style.colour(*case)
    ax.plot(
        trace.lr,
        style.below(trace.loss, top),
        color=shade,
        alpha=0.4,
        linewidth=1,
        label="raw loss",
    )
    ax.plot(trace.lr, style.below(trace.smoothed, top), color=shade, label="smoothed loss")
    ax.axvspan(
        low,
        high,
        ymax=0.05,
        color=style.INK,
        alpha=0.85,
        linewidth=0,
        label=f"suggested range, {number(low)} to {number(high)}",
        gid=style.tip(f"suggested range {number(low, 3)} to {number(high, 3)}"),
    )
    style.log_axis(ax)
    ax.set_xlim(trace.lr[0], trace.lr[-1])
    ax.set(ylabel="training loss (nats)")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 0.06))
    return figure
