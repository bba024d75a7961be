"""Every protocol on every backend, side by side: is it the framework or the protocol?"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrrt.analysis.ranges import QUANTITIES
from lrrt.analysis.statistics import log_quantiles, usable
from lrrt.experiments.attribution.tables import BACKEND, INTERACTION
from lrrt.experiments.sweep.tables import curves_file
from lrrt.report import style, wording
from lrrt.report.figures import _sweep
from lrrt.report.figures._factors import told
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 60
SECTION = "Initial weights and batch order"
TITLE = "Framework or protocol?"
NEEDS = "a weights sweep of one protocol on two backends"
SWEEP = "weights"


def _line(row: dict) -> str:
    """From what to what, and where."""
    if row["effect_of"] == INTERACTION:
        return "interaction"
    origin, target, at = (wording.name(row[key]) for key in ("origin", "target", "at"))
    return f"{origin} to {target}, {'both' if ' and ' in row['at'] else at}"


def headline(data: StudyData) -> str:
    """The effects averaged over the other factor, and which are not told from none."""
    main = data.framework[data.framework["at"].str.contains(" and ")].dropna(subset=["effect"])
    parts, counts = [], []
    for kind in ("protocol", BACKEND):
        rows = main[main["effect_of"] == kind]
        if len(rows) != len(QUANTITIES) or rows["quantity"].nunique() != len(QUANTITIES):
            return ""
        sizes = " and ".join(map(_told, rows.to_dict("records")))
        first = rows.iloc[0]
        parts.append(
            f"{sizes} decades from {wording.name(first['origin'])} to "
            f"{wording.name(first['target'])}"
        )
        counts += rows["n"].tolist()
    names = " and ".join(wording.name(quantity) for quantity in rows["quantity"])
    n = " to ".join(map(str, sorted({min(counts), max(counts)})))
    return (
        f"With the same weights and batches, {names} move by {parts[0]}, and by {parts[1]} "
        f"(n = {n})."
    )


def places(data: StudyData) -> str:
    """On what each backend ran, as a sentence, where that is not the same."""
    found = {}
    for case in data.cases(SWEEP):
        found.setdefault(case[0], set()).update(data.places.get(curves_file((*case, SWEEP)), []))
    if len(set(map(frozenset, found.values()))) < 2:
        return ""
    listed = ", ".join(
        f"{wording.name(backend)} on {' and '.join(sorted(ran))}" for backend, ran in found.items()
    )
    return f" The framework's effect is that of device and precision, too: {listed}."


def _told(row: dict) -> str:
    return wording.effect(row) + ("" if told(row) else " (not told from none)")


def caption(data: StudyData) -> str:
    low, high = data.config.report.loss_quantiles
    parts = []
    for case in data.cases(SWEEP):
        rows = data.suggested(SWEEP, case)
        middle = log_quantiles(rows["max_lr"], [0.5])[0]
        parts.append(f"{wording.case(*case)}: {number(middle)} (n = {len(rows)})")
    effects = (
        ""
        if not len(data.framework)
        else (
            " Below: effects on log10 LR, of runs with the same weights and the same batches, with "
            "their 95 % t intervals. "
            f"{headline(data)}{places(data)}"
        )
    )
    return (
        "Suggested min and max LR of every run with new weights and batch order, each protocol on "
        "each backend, from the same weights seeds and batch plans. Black ticks: medians; bars: "
        f"{low:.0%} to {high:.0%} quantiles across runs. Median max LR: {'; '.join(parts)}."
        f"{effects}"
    )


def draw(data: StudyData) -> Figure | None:
    cases = sorted(data.cases(SWEEP), key=lambda case: (case[1], not data.is_home(case)))
    lrs = usable(data.own.loc[data.own["sweep"] == SWEEP, list(QUANTITIES)].to_numpy().ravel())
    if len({backend for backend, _ in cases}) < 2 or not len(lrs):
        return None
    low, high = data.config.report.loss_quantiles
    effects = data.framework.dropna(subset=["effect"])
    height = 0.9 + 0.95 * len(cases)
    ratios = [0.95] * len(cases)
    if len(effects):
        lines = list(dict.fromkeys(_line(row) for row in effects.to_dict("records")))
        ratios += [0.1, 0.3 * len(lines)]
        height += 0.7 + 0.3 * len(lines)
    figure, grid = style.axes(len(ratios), 1, (6.4, height), height_ratios=ratios)
    upper = grid[: len(cases), 0]
    for ax, case in zip(upper, cases, strict=True):
        rows = data.suggested(SWEEP, case)
        shade = style.colour(*case)
        _sweep.ranges(ax, rows, [low, 0.5, high], dict.fromkeys(_sweep.QUANTITIES, shade))
        ax.set_title(f"{wording.case(*case)} (n = {len(rows)})", fontsize=9.5)
        style.log_axis(ax, text="learning rate" if ax is upper[-1] else "")
        ax.tick_params(labelbottom=ax is upper[-1])
        ax.set_xlim(lrs.min() / 1.6, lrs.max() * 1.6)
    if len(effects):
        grid[-2, 0].set_axis_off()
        _effects(grid[-1, 0], effects, lines)
    return figure


def _effects(ax: Axes, effects: pd.DataFrame, lines: list[str]) -> None:
    ax.axvline(0, color=style.MUTED, linewidth=0.8)
    for quantity, fill, side in zip(QUANTITIES, ("white", style.INK), (-0.16, 0.16), strict=True):
        for row in effects[effects["quantity"] == quantity].to_dict("records"):
            line = lines.index(_line(row)) + side
            words = f"{_line(row)}, {wording.name(quantity)}: {wording.effect(row)} decades"
            words += f", n = {row['n']}"
            ax.plot([row["low"], row["high"]], [line, line], color=style.INK, linewidth=1.2)
            ax.plot(
                [row["effect"]],
                [line],
                "o",
                color=style.INK,
                markerfacecolor=fill,
                markersize=5,
                linestyle="none",
                gid=style.tip(words),
            )
        ax.plot([], [], "o", color=style.INK, markerfacecolor=fill, label=wording.name(quantity))
    ax.set(
        yticks=range(len(lines)),
        yticklabels=lines,
        ylim=(len(lines) - 0.4, -0.6),
        xlabel="effect, decades of the suggested LR",
    )
    ax.legend(fontsize=8)
