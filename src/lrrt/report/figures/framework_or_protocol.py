"""Every protocol on every backend, side by side: is it the framework or the protocol?"""

from matplotlib.figure import Figure

from lrrt.analysis.dispersion import log_quantiles
from lrrt.report import style
from lrrt.report.figures import _sweep
from lrrt.report.study import StudyData
from lrrt.report.style import number

ORDER = 60
SECTION = "Initial weights and batch order"
TITLE = "Framework or protocol?"
NEEDS = "a weights sweep of one protocol on two backends"
SWEEP = "weights"


def caption(data: StudyData) -> str:
    low, high = data.config.report.loss_quantiles
    parts = []
    for case in data.cases(SWEEP):
        rows = data.suggested(SWEEP, case)
        middle = log_quantiles(rows["max_lr"], [0.5])[0]
        parts.append(f"{style.short_label(*case)}: {number(middle)} (n = {len(rows)})")
    return (
        "Suggested min and max LR of every run with new weights and batch order, each protocol on "
        "each backend, from the same weights seeds and batch plans. Black ticks: medians; bars: "
        f"{low:.0%} to {high:.0%} quantiles across runs. Median max LR: {'; '.join(parts)}."
    )


def draw(data: StudyData) -> Figure | None:
    cases = sorted(data.cases(SWEEP), key=lambda case: (case[1], not data.is_home(case)))
    if len({backend for backend, _ in cases}) < 2:
        return None
    low, high = data.config.report.loss_quantiles
    figure, grid = style.axes(len(cases), 1, (6.4, 0.9 + 0.95 * len(cases)), sharex=True)
    for ax, case in zip(grid[:, 0], cases, strict=True):
        rows = data.suggested(SWEEP, case)
        shade = style.colour(*case)
        _sweep.ranges(ax, rows, [low, 0.5, high], dict.fromkeys(_sweep.QUANTITIES, shade))
        ax.set_title(f"{style.short_label(*case)} (n = {len(rows)})", fontsize=9.5)
    style.log_axis(grid[-1, 0])
    return figure
