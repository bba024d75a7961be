"""Which factor moves the range from one protocol's to the other's, in decades."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.analysis.ranges import QUANTITIES
from lrrt.experiments.attribution.design import ALL, ALONE, SCREEN
from lrrt.experiments.attribution.tables import AVERAGED, UNEXPLAINED, oriented
from lrrt.report import style, wording
from lrrt.report.figures._factors import words
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 65
SECTION = "Initial weights and batch order"
TITLE = "From one protocol's range to the other's, factor by factor"
NEEDS = "runs with factors exchanged between two protocols (attribution.runs)"
RUNS_OF = "attribution"
WHOLE, REST = "all factors", "not named"


def _ends(rows: pd.DataFrame) -> tuple[str, str]:
    whole = rows[rows["design"] == ALL].iloc[0]
    return whole["origin"], whole["target"]


def _looks(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame, dict, float]]:
    """Each kind of dot: its legend, its rows, its looks, and where it stands in a line."""
    start, end = _ends(rows)
    found, shade = [], style.TRAIN_COLOUR
    for origin, side, fill in ((start, -0.2, shade), (end, 0.2, "white")):
        mine = rows[(rows["design"] == ALONE) & (rows["origin"] == origin)]
        looks = {"marker": "o", "color": shade, "markerfacecolor": fill}
        found.append((f"alone, from {wording.name(origin)}", mine, looks, side))
    averaged = rows[rows["design"] == AVERAGED]
    found.append(("mean over sequences", averaged, {"marker": "D", "color": style.INK}, 0.0))
    return [kind for kind in found if len(kind[1])]


def _rows(data: StudyData) -> pd.DataFrame:
    return data.attribution[data.attribution["scale"] == SCREEN]


def caption(data: StudyData) -> str:
    start, end = _ends(_rows(data))
    parts = []
    for quantity in QUANTITIES:
        rows = oriented(_rows(data), quantity)
        whole = rows[rows["design"] == ALL].iloc[0]
        text = f"{wording.name(quantity)}: {wording.effect(whole)} in all"
        singles = rows[rows["design"] == ALONE].dropna(subset=["effect"])
        if len(singles):
            largest = singles.loc[singles["effect"].abs().idxmax()]
            text += (
                f", the largest single one {wording.effect(largest)} ({words(largest['factor'])}, "
                f"exchanged in {wording.name(largest['origin'])})"
            )
        rest = rows[rows["design"] == UNEXPLAINED]
        if len(rest) and whole["effect"]:
            text += f"; not named: {abs(rest['effect'].iloc[0] / whole['effect']):.0%} of it"
        parts.append(text)
    counts, settings = _rows(data)["n"], data.config.attribution
    n = str(counts.max()) if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    return (
        f"Effect of each factor on the suggested LR, in decades, on the way from "
        f"{wording.name(start)} to {wording.name(end)} ({wording.name(settings.backend)}, "
        f"{data.scale_of(settings)}, n = {n} runs each side, paired by seed): mean log10 "
        f"difference; bars: its 95 % t interval. "
        f"Effects measured from the other end are turned round. {'; '.join(parts)}."
    )


def draw(data: StudyData) -> Figure | None:
    table = _rows(data)
    if not len(table) or not np.isfinite(table["effect"].astype(float)).any():
        return None
    rest = [REST] if (table["design"] == UNEXPLAINED).any() else []
    factors = [name for name in dict.fromkeys(table["factor"]) if name]
    lines = [WHOLE, *factors, *rest]
    figure, grid = style.axes(
        1, len(QUANTITIES), (8.6, 1.7 + 0.38 * len(lines)), sharex=True, sharey=True
    )
    for ax, quantity in zip(grid[0], QUANTITIES, strict=True):
        rows = oriented(table, quantity)
        ax.axvline(0, color=style.MUTED, linewidth=0.8)
        for design, line in ((ALL, 0), (UNEXPLAINED, len(lines) - 1)):
            for row in rows[rows["design"] == design].to_dict("records"):
                _dot(ax, row, line, marker="s", color=style.INK)
        for text, found, looks, side in _looks(rows):
            for row in found.to_dict("records"):
                _dot(ax, row, lines.index(row["factor"]) + side, **looks)
            ax.plot([], [], linestyle="none", label=text, **looks)
        ax.set(
            yticks=range(len(lines)),
            yticklabels=[words(line) for line in lines],
            ylim=(len(lines) - 0.4, -0.6),
            xlabel="decades",
        )
        ax.set_title(wording.name(quantity))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, loc="outside upper center", ncols=min(len(handles), 3), fontsize=8
        )
    return figure


def _dot(ax, row: dict, line: float, *, color: str, **looks) -> None:
    text = f"{words(row['factor']) or row['design']}: {wording.effect(row)} decades"
    text += f", from {number(row['before'])} to {number(row['after'])}, n = {row['n']}"
    ax.plot([row["low"], row["high"]], [line, line], color=color, linewidth=1.2)
    ax.plot(
        [row["effect"]],
        [line],
        color=color,
        markersize=6,
        linestyle="none",
        gid=style.tip(text),
        **looks,
    )
