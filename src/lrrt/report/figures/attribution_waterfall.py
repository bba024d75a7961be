"""From one published range to the other, factor by factor."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.analysis.attribution import FACTOR, PUBLISHED, UNNAMED
from lrrt.analysis.dispersion import QUANTITIES
from lrrt.report import style
from lrrt.report.study import StudyData
from lrrt.report.style import number
from lrrt.runs.ladder import ALL, SEQUENCE

ORDER = 64
SECTION = "Initial weights and batch order"
TITLE = "From one published range to the other"
NEEDS = "runs with factors exchanged between two protocols (attribution.runs)"
RUNS_OF = "attribution"
UP, DOWN = style.TRAIN_COLOUR, style.VALIDATION_COLOUR


def _words(factor: str) -> str:
    return factor.replace("_", " ")


def _label(row: dict) -> str:
    if row["kind"] == PUBLISHED:
        return f"published, {style.name(row['name'])}".replace("the post's ", "")
    words = _words(row["name"]) if row["kind"] in (FACTOR, UNNAMED) else ""
    return words if row["kind"] == FACTOR else ", ".join(filter(None, (row["kind"], words)))


def _gap(data: StudyData, quantity: str) -> tuple[pd.Series, bool]:
    """The whole way, and whether it is told from none: of what may be nothing there are no shares.
    (Of one run, which has no interval, it is as it is.)"""
    mine = data.attribution[data.attribution["quantity"] == quantity]
    whole = mine[mine["design"] == ALL].iloc[0]
    return whole, not whole["low"] <= 0 <= whole["high"]


def findings(data: StudyData) -> list[str]:
    """The gap, the factors that move it, and what the named ones add up to, of both quantities."""
    parts = []
    for quantity in QUANTITIES:
        steps = data.waterfall[data.waterfall["quantity"] == quantity]
        named = steps[steps["kind"] == FACTOR]
        if not len(named):
            continue
        first, last = steps.iloc[0], steps.iloc[-1]
        inner = steps[steps["kind"].isin([FACTOR, UNNAMED])]
        whole, told = _gap(data, quantity)
        sure = named[(named["low"] > 0) | (named["high"] < 0)]
        words = f"{style.name(quantity)} goes from {number(inner['before'].iloc[0])} to "
        words += f"{number(inner['after'].iloc[-1])}, {style.effect(whole)} decades"
        if first["kind"] == PUBLISHED:
            gap = np.log10(last["after"] / first["before"])
            words += (
                f" (published {number(first['before'])} to {number(last['after'])}, {gap:+.2f})"
            )
        if told:
            rows = (sure if len(sure) else named.head(1)).to_dict("records")
            moving = ", ".join(f"{_words(row['name'])} {style.effect(row)}" for row in rows)
            words += f"; {'told from none are' if len(sure) else 'the largest is'} {moving}; "
            words += f"all named factors are {named['share'].sum():.0%} of it"
            if first["kind"] == PUBLISHED:
                words += f", {named['share_published'].sum():.0%} of the published gap"
        else:
            words += ", no gap that these runs tell from none, and so no shares of it"
        parts.append(words)
    if not parts:
        return []
    ends = " to ".join(style.name(whole[end]) for end in ("origin", "target"))
    scale = data.scale_of(data.config.attribution)
    return [f"From {ends} ({scale}, n = {whole['n']}), {'; '.join(parts)}."]


def caption(data: StudyData) -> str:
    steps = data.waterfall
    named = steps[steps["kind"] == FACTOR]
    single = not (data.attribution["design"] == SEQUENCE).any()
    settings = data.config.attribution
    how = "exchanged alone in the first protocol" if single else "the mean over sequences"
    away = "" if data.at_the_posts_scale and settings.depth is settings.batch_size is None else (
        " The published values are of another network or other data: so are the grey ways from and "
        "to them."
    )  # fmt: skip
    return (
        f"The way of the suggested LR between the two protocols' published medians "
        f"({style.name(settings.backend)}, {data.scale_of(settings)}, n = {named['n'].max()} runs "
        f"each, paired by seed). A factor's bar is its effect, {how}: mean log10 "
        f"difference, with its 95 % t interval as a line. Our ends are geometric means. "
        f"What is not named is left between the factors' sum and our second end.{away} "
        f"{' '.join(findings(data))}"
    )


def draw(data: StudyData) -> Figure | None:
    table = data.waterfall
    if not (table["kind"] == FACTOR).any():
        return None
    factors = table[table["kind"] == FACTOR]
    sizes = factors["effect"].abs().groupby(factors["name"]).sum()
    quantities = [name for name in QUANTITIES if (table["quantity"] == name).any()]
    figure, grid = style.axes(1, len(quantities), (8.6, 1.6 + 0.36 * table["step"].max()))
    first = None
    for ax, quantity in zip(grid[0], quantities, strict=True):
        steps = ordered(table[table["quantity"] == quantity], sizes).to_dict("records")
        told = _gap(data, quantity)[1]
        bars = [row[end] for row in steps for end in ("before", "after")]
        ends = [_whisker(row, min(bars) / 30, max(bars) * 30) for row in steps]
        for line, (row, whisker) in enumerate(zip(steps, ends, strict=True)):
            _step(ax, line, row, whisker, told)
            if line + 1 < len(steps):
                ax.plot([row["after"]] * 2, [line - 0.3, line + 1.3], color=style.MUTED,
                        linewidth=0.7, linestyle=":")  # fmt: skip
        labels = [_label(row) for row in steps]
        ax.set_yticks(range(len(steps)), [""] * len(steps) if labels == first else labels)
        first = first or labels
        ax.set(ylim=(len(steps) - 0.4, -0.6), title=style.name(quantity))
        style.log_axis(ax)
        reach = np.concatenate([bars, *ends])
        words = (reach.max() / reach.min()) ** 0.45  # room for them beside the bars
        ax.set_xlim(reach.min() / 2, reach.max() * words)
    return figure


def ordered(steps: pd.DataFrame, sizes: pd.Series) -> pd.DataFrame:
    """The same steps with the factors by falling ``sizes``, ends meeting again: one order of lines
    for all quantities."""
    order = np.arange(len(steps))
    factors = np.flatnonzero(steps["kind"] == FACTOR)
    by_size = np.argsort(-sizes[steps["name"].iloc[factors]].to_numpy(), kind="stable")
    order[factors] = factors[by_size]
    found = steps.iloc[order].reset_index(drop=True)
    ends = np.log10(found["before"].iloc[0]) + found["effect"].cumsum()
    return found.assign(before=10 ** (ends - found["effect"]), after=10**ends)


def _whisker(row: dict, low: float, high: float) -> list[float]:
    """The ends of a step's interval, cut where it goes far beyond all bars; none without one."""
    ends = [row["before"] * 10 ** row[end] for end in ("low", "high") if np.isfinite(row[end])]
    return [min(max(end, low), high) for end in ends]


def _step(ax, line: int, row: dict, whisker: list[float], shares: bool) -> None:
    words = f"{_label(row)}: {number(row['before'])} to {number(row['after'])}"
    if row["kind"] == PUBLISHED:
        ax.plot([row["after"]], [line], "D", color=style.INK, markersize=6, gid=style.tip(words))
        ax.annotate(number(row["after"]), (row["after"], line), (7, 0), va="center",
                    textcoords="offset points", fontsize=7.5)  # fmt: skip
        return
    shade = {FACTOR: UP if row["effect"] >= 0 else DOWN, UNNAMED: "#bbbbbb"}.get(
        row["kind"], style.MUTED
    )
    words += f", {style.effect(row)} decades"
    ax.fill_betweenx([line - 0.3, line + 0.3], row["before"], row["after"], color=shade,
                     alpha=0.85, linewidth=0, gid=style.tip(words))  # fmt: skip
    ax.plot(whisker, [line] * len(whisker), color=style.INK, linewidth=1.0)
    text = f"{row['effect']:+.2f}"
    if shares and np.isfinite(row["share"]):
        text += f" ({row['share']:.0%})"
    right = max(row["before"], row["after"], *whisker)
    ax.annotate(text, (right, line), (5, 0), va="center", textcoords="offset points", fontsize=7.5)
