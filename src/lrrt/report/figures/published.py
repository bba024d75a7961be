"""The post's published medians and bars beside ours."""

import numpy as np
from matplotlib.figure import Figure

from lrrt.analysis.published import RUNS
from lrrt.report import style
from lrrt.report.study import StudyData
from lrrt.report.style import number

ORDER = 50
SECTION = "Initial weights and batch order"
TITLE = "Published suggestions beside ours"
NEEDS = "a weights or an order sweep of a protocol on the backend on which the post ran it"
SWEEPS = {"weights": "new weights", "order": "same weights"}


def caption(data: StudyData) -> str:
    table = data.published
    known = table["inside"].notna()
    inside = int(table.loc[known, "inside"].astype(bool).sum())
    return (
        f"Medians (dots) and 10 to 90 % quantiles across runs (bars). Grey: published, n = {RUNS}, "
        "ResNet-56 on CIFAR-10, batch 512; one bar was too short to read. Colour: this study, "
        f"{data.scale}; black line: 95 % bootstrap interval of the median, in log10 (with fewer "
        f"than six runs it cannot reach 95 %). {inside} of {int(known.sum())} medians lie inside "
        "the published bar."
    )


def draw(data: StudyData) -> Figure | None:
    table = data.published
    if not len(table):
        return None
    figure, grid = style.axes(1, 1, (7, 1.1 + 0.5 * len(table)))
    ax = grid[0, 0]
    labels = []
    for position, row in enumerate(table.itertuples()):
        shade = style.colour(row.backend, row.protocol)
        what = f"{style.name(row.backend)}, {SWEEPS[row.sweep]}: {style.name(row.quantity)}"
        for offset, who, tint, q10, median, q90 in (
            (-0.17, "published", style.MUTED, row.published_q10, row.published_median,
             row.published_q90),
            (0.17, "here", shade, row.q10, row.median, row.q90),
        ):  # fmt: skip
            hover = (
                f"{what}, {who}: median {number(median, 3)}, 10 to 90 % {number(q10, 3)} to "
                f"{number(q90, 3)}"
            )
            ax.plot([q10, q90], [position + offset] * 2, color=tint, linewidth=7, alpha=0.35)
            ax.plot([median], [position + offset], "o", color=tint, markersize=7,
                    gid=style.tip(hover))  # fmt: skip
        if np.isfinite([row.median_low, row.median_high]).all():
            ax.plot([row.median_low, row.median_high], [position + 0.17] * 2, color=style.INK,
                    linewidth=1)  # fmt: skip
        labels.append(f"{what} (n = {row.n})")
    ax.plot([], [], "o", color=style.MUTED, label=f"published (n = {RUNS})")
    for case in dict.fromkeys(zip(table["backend"], table["protocol"], strict=True)):
        ax.plot([], [], "o", color=style.colour(*case),
                label=f"here: {style.name(case[0])}")  # fmt: skip
    ax.set(yticks=range(len(table)), yticklabels=labels, ylim=(len(table) - 0.4, -0.6))
    style.log_axis(ax)
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3)
    return figure
