"""Which factor makes the gap between the two protocols, at the study's own scale."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.analysis.ranges import QUANTITIES
from lrrt.experiments.attribution.design import ALL, STUDY
from lrrt.experiments.attribution.tables import AVERAGED, in_one_direction
from lrrt.report import style, wording
from lrrt.report.figures import WHY
from lrrt.report.study import StudyData

ORDER = 75
SECTION = WHY
WHOLE = "whole gap"


def effects(data: StudyData, quantity: str, scale: str = STUDY) -> pd.DataFrame:
    """The whole gap and each factor's part of it, averaged over the sequences (columns ``factor``,
    ``effect``, ``low``, ``high`` in decades, ``n``); the largest part first."""
    rows = in_one_direction(data.attribution[data.attribution["scale"] == scale], quantity)
    rows = rows[rows["design"].isin([ALL, AVERAGED])]
    rows = rows[np.isfinite(rows["effect"].astype(float))]
    names = rows["factor"].map(wording.factor).where(rows["design"] != ALL, WHOLE)
    return rows.assign(factor=names, whole=names == WHOLE).sort_values(
        ["whole", "effect"], ascending=False, kind="stable"
    )


def title(data: StudyData) -> str:
    rows = effects(data, "min_lr")
    whole, parts = rows[rows["whole"]], rows[~rows["whole"]]
    clear = parts[(parts["low"] > 0) | (parts["high"] < 0)]
    if not len(whole) or not len(clear):
        return "No single factor clearly makes the gap between the protocols"
    row = clear.loc[clear["effect"].abs().idxmax()]
    return (
        f"{row['factor'].capitalize()} alone multiplies min LR by "
        f"{wording.ratio(10 ** row['effect'])}, all factors together by "
        f"{wording.ratio(10 ** whole['effect'].iloc[0])}"
    )


def caption(data: StudyData) -> str:
    return (
        "From the fastai to the Keras protocol: by how much exchanging one factor multiplies the "
        "suggestion, averaged over the sequences in which the factors were exchanged. "
        f"{interval_words(data, STUDY)} A factor alone can do more than the whole gap, others "
        "take back what it does."
    )


def interval_words(data: StudyData, scale: str) -> str:
    counts = effects(data, "min_lr", scale)["n"]
    return (
        f"n = {counts.max()} runs paired by weights and batches; lines: 95 % t intervals; faint: "
        "the interval contains ×1."
    )


def draw(data: StudyData) -> Figure | None:
    return lollipops(data, STUDY)


def lollipops(data: StudyData, scale: str) -> Figure | None:
    """One line a factor and panel a quantity, on an axis of ratios."""
    found = {quantity: effects(data, quantity, scale) for quantity in QUANTITIES}
    names = list(dict.fromkeys(found["min_lr"]["factor"]))
    if not names:
        return None
    figure, grid = style.axes(
        1, len(QUANTITIES), (style.WIDTH, 0.9 + 0.36 * len(names)), sharey=True, sharex=True
    )
    shade = style.colour("torch", "blog_fastai")
    for ax, quantity in zip(grid[0], QUANTITIES, strict=True):
        ax.axvline(1, color=style.MUTED, linewidth=0.9)
        for row in found[quantity].to_dict("records"):
            place = names.index(row["factor"])
            clear = not row["low"] <= 0 <= row["high"]
            looks = {"color": style.INK if row["whole"] else shade, "alpha": 1 if clear else 0.35}
            words = f"{row['factor']}: {wording.effect(row)} decades, n = {row['n']}"
            ax.plot([10 ** row["low"], 10 ** row["high"]], [place] * 2, linewidth=1.4, **looks)
            ax.plot(
                [10 ** row["effect"]],
                [place],
                "s" if row["whole"] else "o",
                gid=style.tip(words),
                **looks,
            )
            ax.annotate(
                wording.times(10 ** row["effect"]),
                (10 ** row["effect"], place),
                (0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                alpha=max(looks["alpha"], 0.65),  # to be read in dark, too
            )
        style.log_axis(ax, text=f"multiplies {wording.name(quantity)} by", ticks=6)
    reach = max(np.nanmax(np.abs(rows["effect"].astype(float))) for rows in found.values()) + 0.9
    grid[0, 0].set(
        yticks=range(len(names)),
        yticklabels=names,
        ylim=(len(names) - 0.4, -0.8),
        xlim=(10**-reach, 10**reach),
    )
    return figure
