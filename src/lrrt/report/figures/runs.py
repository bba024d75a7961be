"""Twenty runs (or however many) with new initial weights: the loss band and the suggested range."""

import numpy as np

from lrrt.analysis.dispersion import loss_bands
from lrrt.report import StudyData, log_quantiles, number, style

ORDER = 30
TITLE = "Range tests with different initial weights"
NEEDS = "a weights sweep"
SWEEP = "weights"


def cases(data: StudyData) -> list[tuple[str, str]]:
    return data.cases(SWEEP)


def title(backend: str, protocol: str) -> str:
    return f"{TITLE}: {style.label(backend, protocol)}"


def what_changes(data: StudyData) -> str:
    """What differs between the runs of the weights sweep, from its config."""
    sweep = data.config.sweeps.get(SWEEP)
    return "new initial weights" + (" and batch order" if sweep and sweep.new_order else "")


def caption(data: StudyData, backend: str, protocol: str) -> str:
    rows = data.suggested(SWEEP, backend, protocol)
    low, high = data.config.report.loss_quantiles
    used = rows.dropna(subset=["min_lr", "max_lr"])
    parts = []
    for name, words in (("min_lr", "min LR"), ("max_lr", "max LR")):
        q = log_quantiles(used[name], [low, 0.5, high])
        parts.append(f"{words} median {number(q[1])} [{number(q[0])}, {number(q[2])}]")
    fallback = int(used["fallback"].astype(bool).sum())
    extra = f" Min LR is the rule's fallback, max LR / 10, in {fallback} runs." if fallback else ""
    abstained = len(rows) - len(used)
    extra += f" The rule abstained in {abstained} runs." if abstained else ""
    return (
        f"n = {len(rows)} range tests with {what_changes(data)} each. Line: median smoothed loss; "
        f"band and bars: {low:.0%} to {high:.0%} quantiles across runs (descriptive, no "
        f"confidence interval); every dot is a run. {'; '.join(parts)}.{extra}"
    )


def draw(data: StudyData, backend: str, protocol: str):
    rows = data.suggested(SWEEP, backend, protocol)
    traces = data.traces(SWEEP, backend, protocol)
    if not traces:
        return None
    bands = loss_bands(data.curves[data.curves["sweep"] == SWEEP], data.config.protocols)
    band = bands[(bands["backend"] == backend) & (bands["protocol"] == protocol)]
    band = band[band["batch_size"] == traces[0].batch_size].sort_values("step")
    shade = style.colour(backend, protocol)
    figure, grid = style.axes(2, 1, (7.2, 5.4), sharex=True, height_ratios=[3, 1.15])
    top, bottom = grid[:, 0]
    top.fill_between(band["lr"], band["low"], band["high"], color=shade, alpha=0.25, linewidth=0,
                     label="10–90 % of runs")
    top.plot(band["lr"], band["median"], color=shade, label=f"median of {len(traces)} runs")
    style.loss_limits(top, [trace.loss[0] for trace in traces])
    top.set(ylabel="smoothed training loss (nats)")
    top.legend(loc="lower left")
    quantiles = data.config.report.loss_quantiles
    for position, name in enumerate(("max_lr", "min_lr")):
        values = rows[name].to_numpy(float)
        values = values[np.isfinite(values) & (values > 0)]
        low, median, high = log_quantiles(values, [quantiles[0], 0.5, quantiles[1]])
        bottom.plot([low, high], [position] * 2, color=shade, linewidth=7, alpha=0.3)
        bottom.plot(values, position + style.jitter(len(values)), "o", color=shade, markersize=4,
                    alpha=0.75, markeredgewidth=0)
        bottom.plot([median], [position], "|", color="black", markersize=18, markeredgewidth=2)
    bottom.set(yticks=[0, 1], yticklabels=["max LR", "min LR"], ylim=(-0.6, 1.6))
    style.lr_axis(bottom)
    bottom.set_xlim(band["lr"].min(), band["lr"].max())
    return figure
