"""Training and validation loss at every step, not smoothed, beside the smoothed curve."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrrt.claims.study import Case, Trace
from lrrt.report import style, wording
from lrrt.report.figures import WHY
from lrrt.report.study import StudyData

ORDER = 80
SECTION = WHY
SWEEPS = {  # the first that there is: what batch norm normalised with
    "validation_batch": "batch statistics",
    "validation": "running statistics",
}


def run(data: StudyData, case: Case) -> tuple[str, Trace, float] | None:
    """The sweep, its first run with a validation loss, and the max LR suggested for that."""
    for sweep in SWEEPS:
        rows = data.own_suggestions(sweep, case).set_index("run")["max_lr"].dropna()
        for trace in data.traces(sweep, case):
            if trace.val_loss is not None and trace.run in rows.index:
                return sweep, trace, float(rows[trace.run])
    return None


def runs(data: StudyData) -> dict[Case, tuple[str, Trace, float]]:
    """Of the home cases that have one."""
    cases = {case for sweep in SWEEPS for case in data.home_cases(sweep)}
    return {case: found for case in sorted(cases) if (found := run(data, case))}


def rise(trace: Trace, maximum: float) -> float:
    """By what share the raw loss, without lag, has risen at ``maximum`` from its lowest before."""
    before = trace.steady[: max(1, (trace.trained_lr <= maximum * (1 + 1e-9)).sum())]
    before = np.where(np.isfinite(before), before, np.inf)
    return float(before[-1] / before.min() - 1)


def title(data: StudyData) -> str:
    parts = [
        f"{wording.percent(rise(trace, maximum))} ({wording.name(case[0])})"
        for case, (_, trace, maximum) in runs(data).items()
    ]
    return f"At the suggested maximum the raw loss has risen by {wording.listed(parts)}"


def caption(data: StudyData) -> str:
    sweep, trace, _ = next(iter(runs(data).values()))
    images = data.config.data.test_images
    return (
        "Thin: raw training loss; thick: what the finder reads, the smoothed one; dashed: loss on "
        f"all {images:,} test images after each step (batch norm with {SWEEPS[sweep]}). Upright "
        "line: the suggested maximum; n = 1 run a panel; loss axes cut. Validating at every step "
        f"takes {len(trace.lr)} passes over the test images."
    )


def draw(data: StudyData) -> Figure | None:
    found = runs(data)
    if not found:
        return None
    figure, grid = style.axes(1, len(found), (style.WIDTH, 3.0))
    for ax, (case, (_, trace, maximum)) in zip(grid[0], found.items(), strict=True):
        _panel(ax, case, trace, maximum)
    grid[0, 0].set_ylabel("loss (nats)")
    return figure


def _panel(ax: Axes, case: Case, trace: Trace, maximum: float) -> None:
    shade = style.colour(*case)
    top = style.loss_axis(ax, [trace.raw_loss[0]], 1.9)
    for lr, loss, words, looks in (
        (trace.trained_lr, trace.raw_loss, "training, raw", {"linewidth": 0.9, "alpha": 0.7}),
        (trace.lr, trace.smoothed, "training, smoothed", {"linewidth": 2.4}),
        (
            trace.trained_lr,
            trace.val_loss,
            "validation",
            {"color": style.INK, "linestyle": "--", "linewidth": 1.2},
        ),
    ):
        looks = {"color": shade, **looks}
        ax.plot(lr, style.below(loss, top), gid=style.tip(words), **looks)
    ax.axvline(maximum, color=style.INK, linewidth=1)
    style.line_note(ax, maximum, f"max LR {wording.number(maximum)}")
    style.log_axis(ax, ticks=6)
    ax.set_xlim(trace.lr[0], trace.lr[-1])
    ax.set_title(wording.case(*case))
