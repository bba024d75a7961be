"""The post's published medians and bars beside ours."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrrt.analysis.published import RUNS
from lrrt.analysis.ranges import QUANTITIES
from lrrt.report import style, wording
from lrrt.report.figures import APPENDIX
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 200
SECTION = APPENDIX
SWEEPS = {"weights": "new weights", "order": "same weights"}


def title(data: StudyData) -> str:
    known = data.published["inside"].dropna().astype(bool)
    return f"{known.sum()} of {len(known)} medians lie within 10 to 90 % of the published runs"


def caption(data: StudyData) -> str:
    return (
        f"Medians and 10 to 90 % of the runs. Grey: published (n = {RUNS}, ResNet-56 on CIFAR-10, "
        f"batch 512; one bar was too short to read); colour: this study ({data.setting}); black "
        "line: 95 % bootstrap interval of our median (needs six runs or more)."
    )


def draw(data: StudyData) -> Figure | None:
    table = data.published
    if not len(table):
        return None
    settings = list(dict.fromkeys(zip(table["backend"], table["sweep"], strict=True)))
    figure, grid = style.axes(
        1, len(QUANTITIES), (style.WIDTH, 1.0 + 0.6 * len(settings)), sharey=True
    )
    for ax, quantity in zip(grid[0], QUANTITIES, strict=True):
        rows = table[table["quantity"] == quantity]
        for row in rows.itertuples():
            _row(ax, settings.index((row.backend, row.sweep)), row)
        style.log_axis(ax, text=wording.name(quantity), ticks=6)
        ax.grid(False, axis="y")
    grid[0, 0].set(
        yticks=range(len(settings)),
        yticklabels=[f"{wording.name(b)},\n{SWEEPS[sweep]}" for b, sweep in settings],
        ylim=(len(settings) - 0.4, -0.6),
    )
    return figure


def _row(ax: Axes, place: int, row) -> None:
    for offset, who, tint, q10, median, q90 in (
        (
            -0.17,
            "published",
            style.MUTED,
            row.published_q10,
            row.published_median,
            row.published_q90,
        ),
        (0.17, "here", style.colour(row.backend, row.protocol), row.q10, row.median, row.q90),
    ):
        hover = (
            f"{who}: median {number(median, 3)}, 10 to 90 % {number(q10, 3)} to {number(q90, 3)}"
        )
        ax.plot([q10, q90], [place + offset] * 2, color=tint, linewidth=6, alpha=0.4)
        ax.plot([median], [place + offset], "o", color=tint, markersize=6, gid=style.tip(hover))
    if np.isfinite([row.median_low, row.median_high]).all():
        ends = [row.median_low, row.median_high]
        ax.plot(ends, [place + 0.17] * 2, color=style.INK, linewidth=1)
