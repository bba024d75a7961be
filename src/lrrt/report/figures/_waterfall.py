"""From one published range to the other, factor by factor: the figure of one scale of the runs."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.analysis.ranges import QUANTITIES
from lrrt.experiments.attribution.design import ALL, SCREEN, SEQUENCE
from lrrt.experiments.attribution.tables import FACTOR, PUBLISHED, UNNAMED
from lrrt.report import style, wording
from lrrt.report.figures._factors import told, words
from lrrt.report.study import StudyData
from lrrt.report.wording import number

HALF_A_STEP = 0.05  # decades, of the post's ramp: a smaller effect is one of the grid
UP, DOWN = style.TRAIN_COLOUR, style.VALIDATION_COLOUR


def _label(row: dict) -> str:
    if row["kind"] == PUBLISHED:
        return f"published, {wording.name(row['name'])}".replace("the post's ", "")
    name = words(row["name"]) if row["kind"] in (FACTOR, UNNAMED) else ""
    return name if row["kind"] == FACTOR else ", ".join(filter(None, (row["kind"], name)))


def _steps(data: StudyData, scale: str) -> pd.DataFrame:
    return data.waterfall[data.waterfall["scale"] == scale]


def _whole(data: StudyData, scale: str, quantity: str) -> pd.Series:
    """The whole way. Of what may be nothing (:func:`told`) there are no shares."""
    rows = data.attribution
    mine = (rows["scale"] == scale) & (rows["quantity"] == quantity) & (rows["design"] == ALL)
    return rows[mine].iloc[0]


def _scale(data: StudyData, scale: str) -> str:
    return data.scale_of(data.config.attribution if scale == SCREEN else None)


def _sure(named: pd.DataFrame) -> pd.DataFrame:
    """Of these factors those whose effect is told from none by its interval, the largest first."""
    sure = named[(named["low"] > 0) | (named["high"] < 0)]
    sure = sure[sure["effect"].abs() >= HALF_A_STEP]
    return sure.sort_values("effect", key=abs, ascending=False)


def _moving(data: StudyData, scale: str, factors: pd.DataFrame) -> list[str]:
    """Each factor with its effect, and the least and most of that over the orders of exchange."""
    rows, found = data.attribution, []
    rows = rows[rows["scale"].eq(scale) & rows["design"].eq(SEQUENCE)]
    for row in factors.to_dict("records"):
        mine = rows[rows["factor"].eq(row["name"]) & rows["quantity"].eq(row["quantity"])]["effect"]
        text = f"{words(row['name'])} {wording.effect(row)}"
        if len(mine) > 1:
            text += f" ({mine.min():+.2f} to {mine.max():+.2f} over {len(mine)} orders)"
        found.append(text)
    return found


def _gaps(data: StudyData, scale: str) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """By quantity: its steps, and of them those of named factors."""
    table = _steps(data, scale)
    for quantity in QUANTITIES:
        steps = table[table["quantity"] == quantity]
        named = steps[steps["kind"] == FACTOR]
        if len(named):
            yield quantity, steps, named


def _way(data: StudyData, scale: str, whole: pd.Series) -> str:
    ends = " to ".join(wording.name(whole[end]) for end in ("origin", "target"))
    return f"From {ends} ({_scale(data, scale)}, n = {whole['n']})"


def headline(data: StudyData, scale: str) -> str:
    """The gap of both quantities, and the factors that make one which is there."""
    parts = []
    for quantity, _, named in _gaps(data, scale):
        whole = _whole(data, scale, quantity)
        text = f"{wording.name(quantity)} moves by {wording.effect(whole)} decades"
        sure = _moving(data, scale, _sure(named))
        if not told(whole):
            text += ", which is not told from none"
        elif sure:
            text += f", by {' and '.join(sure)}"
        parts.append(text)
    return f"{_way(data, scale, whole)} {'; '.join(parts)}." if parts else ""


def findings(data: StudyData, scale: str) -> str:
    """The gap, the factors that move it, and what the named ones add up to, of both quantities."""
    parts = []
    for quantity, steps, named in _gaps(data, scale):
        first, last = steps.iloc[0], steps.iloc[-1]
        inner = steps[steps["kind"].isin([FACTOR, UNNAMED])]
        whole = _whole(data, scale, quantity)
        sure = _sure(named)
        text = f"{wording.name(quantity)} goes from {number(inner['before'].iloc[0])} to "
        text += f"{number(inner['after'].iloc[-1])}, {wording.effect(whole)} decades"
        if first["kind"] == PUBLISHED:
            gap = np.log10(last["after"] / first["before"])
            text += f" (published {number(first['before'])} to {number(last['after'])}, {gap:+.2f})"
        if not told(whole):
            text += ", no gap that these runs tell from none, and so no shares of it"
        rows = sure if len(sure) else named.head(int(told(whole)))
        if len(rows):
            moving = ", ".join(_moving(data, scale, rows))
            text += f"; {'told from none:' if len(sure) else 'the largest is'} {moving}"
        if told(whole):
            text += f"; all named factors are {named['share'].sum():.0%} of it"
            if first["kind"] == PUBLISHED:
                text += f", {named['share_published'].sum():.0%} of the published gap"
        parts.append(text)
    return f"{_way(data, scale, whole)}, {'; '.join(parts)}." if parts else ""


def caption(data: StudyData, scale: str) -> str:
    steps = _steps(data, scale)
    named = steps[steps["kind"] == FACTOR]
    rungs = data.attribution[data.attribution["scale"] == scale]
    single = not (rungs["design"] == SEQUENCE).any()
    settings = data.config.attribution
    own = scale != SCREEN or settings.depth is settings.batch_size is None
    how = "exchanged alone in the first protocol" if single else "the mean over sequences"
    away = (
        ""
        if data.at_the_posts_scale and own
        else (
            " The published values are of another network or other data: so are the grey ways from "
            "and to them."
        )
    )
    return (
        f"The way of the suggested LR between the two protocols' published medians "
        f"({wording.name(settings.backend)}, {_scale(data, scale)}, n = {named['n'].max()} runs "
        f"each, paired by seed). A factor's bar is its effect, {how}: mean log10 "
        f"difference, with its 95 % t interval over seeds as a line; none of the {len(named)} is "
        "widened for their number. What a factor does depends on what was exchanged before it: its "
        f"bar is for these orders. Our ends are geometric means. "
        "Blue raises the LR, orange lowers it, grey is no named factor. "
        f"What is not named is left between the factors' sum and our second end.{away} "
        f"{findings(data, scale)}"
    )


def draw(data: StudyData, scale: str) -> Figure | None:
    table = _steps(data, scale)
    if not (table["kind"] == FACTOR).any():
        return None
    factors = table[table["kind"] == FACTOR]
    sizes = factors["effect"].abs().groupby(factors["name"]).sum()
    quantities = [name for name in QUANTITIES if (table["quantity"] == name).any()]
    figure, grid = style.axes(1, len(quantities), (8.6, 1.6 + 0.36 * table["step"].max()))
    first = None
    for ax, quantity in zip(grid[0], quantities, strict=True):
        steps = ordered(table[table["quantity"] == quantity], sizes).to_dict("records")
        shares = told(_whole(data, scale, quantity))
        bars = [row[end] for row in steps for end in ("before", "after")]
        ends = [_whisker(row, min(bars) / 30, max(bars) * 30) for row in steps]
        for line, (row, whisker) in enumerate(zip(steps, ends, strict=True)):
            _step(ax, line, row, whisker, shares)
            if line + 1 < len(steps):
                ax.plot(
                    [row["after"]] * 2,
                    [line - 0.3, line + 1.3],
                    color=style.MUTED,
                    linewidth=0.7,
                    linestyle=":",
                )
        labels = [_label(row) for row in steps]
        ax.set_yticks(range(len(steps)), [""] * len(steps) if labels == first else labels)
        first = first or labels
        ax.set(ylim=(len(steps) - 0.4, -0.6), title=wording.name(quantity))
        style.log_axis(ax)
        reach = np.concatenate([bars, *ends])
        room = (reach.max() / reach.min()) ** 0.45  # for the words beside the bars
        ax.set_xlim(reach.min() / 2, reach.max() * room)
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
    text = f"{_label(row)}: {number(row['before'])} to {number(row['after'])}"
    if row["kind"] == PUBLISHED:
        ax.plot([row["after"]], [line], "D", color=style.INK, markersize=6, gid=style.tip(text))
        ax.annotate(
            number(row["after"]),
            (row["after"], line),
            (7, 0),
            va="center",
            textcoords="offset points",
            fontsize=7.5,
        )
        return
    shade = {FACTOR: UP if row["effect"] >= 0 else DOWN, UNNAMED: "#bbbbbb"}.get(
        row["kind"], style.MUTED
    )
    text += f", {wording.effect(row)} decades"
    ax.fill_betweenx(
        [line - 0.3, line + 0.3],
        row["before"],
        row["after"],
        color=shade,
        alpha=0.85,
        linewidth=0,
        gid=style.tip(text),
    )
    ax.plot(whisker, [line] * len(whisker), color=style.INK, linewidth=1.0)
    text = f"{row['effect']:+.2f}"
    if shares and np.isfinite(row["share"]):
        text += f" ({row['share']:.0%})"
    right = max(row["before"], row["after"], *whisker)
    ax.annotate(text, (right, line), (5, 0), va="center", textcoords="offset points", fontsize=7.5)
