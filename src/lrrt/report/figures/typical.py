"""A typical range test: plateau, descent, explosion, and the range suggested."""

import numpy as np

from lrrt.report import StudyData, Trace, number, style

ORDER = 20
TITLE = "A typical range test"
NEEDS = "a weights sweep with at least one suggestion"
PLATEAU_SHARE = 0.05  # the plateau ends where the smoothed loss has fallen by this share


def chosen(data: StudyData) -> tuple[Trace, float, float] | None:
    """The run whose max LR is nearest the median of the first case, with its min and max LR."""
    for case in data.home_cases():
        rows = data.suggested("weights", *case).dropna(subset=["min_lr", "max_lr"])
        rows = rows[rows["max_lr"] > 0].sort_values(["weights_seed", "order_seed"])
        traces = {trace.run: trace for trace in data.traces("weights", *case)}
        rows = rows[rows["run"].isin(traces)]
        if len(rows):
            logs = np.log10(rows["max_lr"].to_numpy())
            row = rows.iloc[int(np.argmin(np.abs(logs - np.median(logs))))]
            return traces[row["run"]], float(row["min_lr"]), float(row["max_lr"])
    return None


def regions(trace: Trace) -> tuple[float, float]:
    """LR at which the plateau ends, and at which the smoothed loss is lowest."""
    smoothed = np.where(np.isfinite(trace.smoothed), trace.smoothed, np.inf)
    lowest = int(np.argmin(smoothed))
    start = np.median(trace.steady[:5])
    fallen = np.flatnonzero(smoothed[: lowest + 1] < (1 - PLATEAU_SHARE) * start)
    first = int(fallen[0]) if len(fallen) else lowest
    return float(trace.lr[first]), float(trace.lr[lowest])


def caption(data: StudyData) -> str:
    trace, low, high = chosen(data)
    return (
        f"One range test (n = 1): {style.label(trace.backend, trace.protocol)}, weights seed "
        f"{trace.weights_seed}, batch {trace.batch_size}; the run whose max LR is nearest the "
        f"median of its sweep. Raw loss and its moving average (EMA, 0.98). Suggested range "
        f"{number(low)} to {number(high)}. The plateau ends where the average has fallen by "
        f"{PLATEAU_SHARE:.0%}; the explosion begins at its minimum. Loss axis cut."
    )


def draw(data: StudyData):
    found = chosen(data)
    if found is None:
        return None
    trace, low, high = found
    figure, grid = style.axes()
    ax = grid[0, 0]
    plateau, minimum = regions(trace)
    edges = [trace.lr[0], plateau, minimum, trace.lr[-1]]
    for (name, shade), left, right in zip(
        style.REGIONS.items(), edges[:-1], edges[1:], strict=True
    ):
        ax.axvspan(left, right, color=shade, alpha=0.12, linewidth=0)
        ax.text(np.sqrt(left * right), 0.97, name, transform=ax.get_xaxis_transform(),
                ha="center", va="top", color="#333333")
    shade = style.colour(trace.backend, trace.protocol)
    ax.plot(trace.lr, trace.loss, color=shade, alpha=0.35, linewidth=1, label="raw loss")
    ax.plot(trace.lr, trace.smoothed, color=shade, label="smoothed loss")
    ax.axvspan(low, high, ymax=0.06, color="#222222", alpha=0.8, linewidth=0,
               label=f"suggested range, {number(low)} to {number(high)}")
    style.lr_axis(ax)
    ax.set_xlim(trace.lr[0], trace.lr[-1])
    style.loss_limits(ax, [trace.loss[0]])
    ax.set(ylabel="training loss (nats)")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 0.08))
    return figure
