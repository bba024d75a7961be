"""The post's published medians and bars beside ours."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.analysis.published import RUNS
from lrrt.analysis.statistics import MINIMUM_RUNS
from lrrt.report import style, wording
from lrrt.report.study import StudyData
from lrrt.report.wording import number

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
        f"the published bar.{_ticks(data)}"
    )


def headline(data: StudyData) -> str:
    """Which medians lie inside the published bars, and whether the bars are as long; of cases with
    enough runs."""
    table = data.published
    enough = table["n"] - table["abstained"] >= MINIMUM_RUNS
    table = table[table["inside"].notna() & enough]
    if not len(table):
        return ""
    outside = [
        f"{_what(row)} {number(row.median)} [{number(row.median_low)}, {number(row.median_high)}], "
        f"published {number(row.published_q10)} to {number(row.published_q90)}"
        f"{_others(data, row)}"
        for row in table[~table["inside"].astype(bool)].itertuples()
    ]
    ours = np.log10(table["q90"] / table["q10"])
    theirs = np.log10(table["published_q90"] / table["published_q10"])
    others = f"; outside: {'; '.join(outside)}" if outside else ""
    return (
        f"{len(table) - len(outside)} of {len(table)} medians lie inside the published 10 to 90 % "
        f"bars{others}. {(ours < theirs).sum()} of our {len(table)} bars are shorter than the "
        f"published ones, {number(ours.median())} decades against {number(theirs.median())} in the "
        "median."
    )


def _what(row) -> str:
    return f"{wording.name(row.backend)}, {SWEEPS[row.sweep]}: {wording.name(row.quantity)}"


def _initialisations(data: StudyData, row) -> pd.DataFrame:
    """Medians of other initial weights beside the one of a row of the order sweep."""
    table = data.medians_by_weights
    if row.sweep != "order":
        return table[:0]
    case = pd.Series({name: getattr(row, name) for name in ("backend", "protocol", "quantity")})
    return table[(table[list(case.index)] == case).all(axis=1) & (table["n"] > 0)]


def _others(data: StudyData, row) -> str:
    found = _initialisations(data, row)
    if not len(found):
        return ""
    inside = found["median"].between(row.published_q10, row.published_q90).sum()
    return (
        f" (of {len(found)} initial weights, these among them, up to {found['n'].max()} runs each, "
        f"the medians go from {number(found['median'].min())} to {number(found['median'].max())}, "
        f"{inside} inside)"
    )


def _ticks(data: StudyData) -> str:
    rows = [row for row in data.published.itertuples() if len(_initialisations(data, row))]
    if not rows:
        return ""
    return (
        " Upright ticks: medians of one initial weights each, over the runs of the crossed design, "
        "the order sweep's own weights among them."
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
        what = _what(row)
        for offset, who, tint, q10, median, q90 in (
            (
                -0.17,
                "published",
                style.MUTED,
                row.published_q10,
                row.published_median,
                row.published_q90,
            ),
            (0.17, "here", shade, row.q10, row.median, row.q90),
        ):
            hover = (
                f"{what}, {who}: median {number(median, 3)}, 10 to 90 % {number(q10, 3)} to "
                f"{number(q90, 3)}"
            )
            ax.plot([q10, q90], [position + offset] * 2, color=tint, linewidth=7, alpha=0.35)
            ax.plot(
                [median], [position + offset], "o", color=tint, markersize=7, gid=style.tip(hover)
            )
        if np.isfinite([row.median_low, row.median_high]).all():
            ax.plot(
                [row.median_low, row.median_high],
                [position + 0.17] * 2,
                color=style.INK,
                linewidth=1,
            )
        for other in _initialisations(data, row).itertuples():
            words = f"{what}, weights seed {other.weights_seed}: median {number(other.median, 3)}"
            ax.plot(
                [other.median],
                [position + 0.17],
                "|",
                color=style.INK,
                markersize=11,
                gid=style.tip(f"{words}, n = {other.n}"),
            )
        labels.append(f"{what} (n = {row.n})")
    ax.plot([], [], "o", color=style.MUTED, label=f"published (n = {RUNS})")
    for case in dict.fromkeys(zip(table["backend"], table["protocol"], strict=True)):
        ax.plot([], [], "o", color=style.colour(*case), label=f"here: {wording.name(case[0])}")
    ax.set(yticks=range(len(table)), yticklabels=labels, ylim=(len(table) - 0.4, -0.6))
    style.log_axis(ax)
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3)
    return figure
