"""A typical range test: plateau, descent, explosion, and where the range is read off."""

import numpy as np
from matplotlib.figure import Figure

from lrrt.analysis.statistics import log_quantiles
from lrrt.claims.study import Case, Trace
from lrrt.report import style, wording
from lrrt.report.figures import TEST
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 20
SECTION = TEST
PLATEAU_SHARE = 0.05  # the plateau ends where the smoothed loss has fallen by this share


def choice(data: StudyData) -> tuple[Case, Trace, float, float] | None:
    """The case and the run: of the first case, the one whose max LR is nearest the median, with its
    min and max LR."""
    for case in data.cases("weights"):
        rows = data.own_suggestions("weights", case).dropna(subset=["min_lr", "max_lr"])
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


def raw_turn(trace: Trace) -> float:
    """LR at which the raw loss, without lag, is lowest."""
    return float(trace.lr[int(np.argmin(trace.steady))])


def title(data: StudyData) -> str:
    _, trace, low, high = choice(data)
    if raw_turn(trace) < high:
        return (
            f"A range test suggests {number(low)} to {number(high)}; the raw loss already rises "
            f"from {number(raw_turn(trace))} on"
        )
    return f"A range test suggests learning rates from {number(low)} to {number(high)}"


def caption(data: StudyData) -> str:
    case, trace, *_ = choice(data)
    return (
        "The learning rate rises at every step; the loss stays flat, falls, then explodes. The "
        "maximum is a tenth of the learning rate at the lowest smoothed loss, which lags behind "
        f"the raw one. One run (n = 1): {wording.case(*case)}, weights seed {trace.weights_seed}, "
        f"batch {trace.batch_size}, the nearest to the median of its sweep; loss axis cut."
    )


def draw(data: StudyData) -> Figure | None:
    found = choice(data)
    if found is None:
        return None
    case, trace, low, high = found
    figure, grid = style.axes(size=(style.WIDTH, 3.5))
    ax = grid[0, 0]
    top = style.loss_axis(ax, [trace.loss[0]], 1.7)
    flat, lowest = regions(trace)
    edges = [trace.lr[0], flat, lowest, trace.lr[-1]]
    for name, left, right in zip(
        ("plateau", "descent", "explosion"), edges[:-1], edges[1:], strict=True
    ):
        ax.axvline(right, color=style.LINE, linewidth=1)
        ax.text(
            np.sqrt(left * right),
            0.98,
            name,
            transform=ax.get_xaxis_transform(),
            ha="center",
            va="top",
            rotation=90 if right < 15 * left else 0,  # too narrow for its name
        )
    shade = style.colour(*case)
    ax.plot(trace.lr, style.below(trace.loss, top), color=shade, alpha=0.4, linewidth=1)
    ax.plot(trace.lr, style.below(trace.smoothed, top), color=shade)
    ax.axvspan(
        low,
        high,
        color=shade,
        alpha=0.15,
        linewidth=0,
        gid=style.tip(f"suggested range {number(low, 3)} to {number(high, 3)}"),
    )
    bottom = float(np.nanmin(trace.smoothed))
    ax.plot([lowest], [bottom], "o", color=style.INK, markersize=5)
    ax.annotate(
        "",
        (high, bottom),
        (lowest, bottom),
        arrowprops={"arrowstyle": "->", "color": style.INK, "shrinkA": 4, "shrinkB": 0},
    )
    ax.annotate(
        "÷ 10", (np.sqrt(lowest * high), bottom), (0, 4), textcoords="offset points", ha="center"
    )
    for lr, text, side in ((low, f"min LR {number(low)}", "right"), (high, "max LR", "left")):
        words = text if side == "right" else f"max LR {number(high)}"
        ax.annotate(
            words,
            (lr, 0.03),
            (-4 if side == "right" else 4, 0),
            xycoords=ax.get_xaxis_transform(),
            textcoords="offset points",
            ha=side,
        )
    style.log_axis(ax)
    ax.set_xlim(trace.lr[0], trace.lr[-1])
    ax.set(ylabel="training loss (nats)")
    start = trace.lr[len(trace.lr) // 12]
    ax.annotate("raw (thin) and smoothed loss", (start, trace.loss[0] * 1.12), color=shade)
    return figure
