"""Over settings: what a learning rate costs beside the best one, and where the rules' suggestions
lie."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lrrt.report import style
from lrrt.report.figures import ANSWER, ground_truth
from lrrt.report.study import StudyData
from lrrt.report.wording import percent

ORDER = 1
SECTION = ANSWER
SCHEDULE = "constant"
#: What people train at, by the names of the rules; those that lose least come first.
SHOWN = {
    "edge": "edge (the default here)",
    "fastai_valley": "fastai_valley (fastai's default)",
    "fixed.default": "no finder: 0.1 for SGD, 0.001 for Adam",
    "blog_fastai.max": "the post's maximum (lowest loss / 10)",
    "blog_fastai.middle": "the middle of the post's range",
    "blog_fastai.min": "the post's minimum (steepest descent)",
    "torch_lr_finder": "torch-lr-finder",
    "keras_lr_finder": "keras_lr_finder",
    "lightning": "Lightning 2.5.3 and later",
}
LEFT, RIGHT = -3.0, 2.0  # decades from the best rate that are drawn
NEAR = 0.25  # decades from the best rate that are shaded
SIZE = (4.9, 6.1)  # inches, of few and large letters: it is the figure that a phone shows first
POINTS = 101
DOT = {
    "color": style.INK,
    "marker": "o",
    "markersize": 4.5,
    "markeredgewidth": 0,
    "linestyle": "none",
    "alpha": 0.6,
}


def losses(data: StudyData) -> pd.DataFrame:
    """Points of accuracy lost, by decades from the best rate (index) and setting (columns); NaN
    beyond the rates that were trained at."""
    settings, trainings = data.tables["oracle_settings"], data.tables["oracle_trainings"]
    counted = settings[settings["counts"] & (settings["schedule"] == SCHEDULE)]
    counted = counted[counted["measure"] == "accuracy"]
    decades = np.linspace(LEFT, RIGHT, POINTS)
    found = {}
    for setting in counted.itertuples():
        rows = trainings[trainings["setting"] == setting.setting]
        rows = rows[rows["schedule"] == SCHEDULE]
        means = rows.groupby("lr")["accuracy"].mean()
        lost = 100 * (means.max() - means)
        away = np.log10(means.index / setting.best_lr)
        found[setting.setting] = np.interp(decades, away, lost, left=np.nan, right=np.nan)
    return pd.DataFrame(found, index=decades)


def shown(data: StudyData) -> list[tuple[str, ground_truth.Row]]:
    """Names and rows of the rules that are drawn."""
    by_rule = {rule: row for row in ground_truth.rows(data).get(SCHEDULE, []) for rule in row.rules}
    found = [(words, by_rule[rule]) for rule, words in SHOWN.items() if rule in by_rule]
    return sorted(found, key=lambda pair: pair[1].of_rule.regret)


def title(data: StudyData) -> str:
    lost = losses(data)
    tenth, tenfold = (lost.loc[lost.index[np.abs(lost.index - at).argmin()]] for at in (-1, 1))
    (name, best), *_ = shown(data)
    return (
        f"Ten times the best rate costs {tenfold.mean():.0f} points of accuracy, a tenth "
        f"of it {tenth.mean():.0f}, what {name.partition(' (')[0]} suggests "
        f"{100 * best.of_rule.regret:.0f}"
    )


def caption(data: StudyData) -> str:
    lost, rows = losses(data), shown(data)
    best = rows[0][1].of_rule
    return (
        f"Above: networks trained at constant rates over a grid, a thin line a setting (n = "
        f"{lost.shape[1]}), the thick line their mean. Below: what each rule suggests, a dot a "
        f"setting, and what training there costs on average; {rows[0][0]} costs least, "
        f"{100 * best.regret:.1f} points [{100 * best.regret_low:.1f}, "
        f"{100 * best.regret_high:.1f}]. Failed: less than half of what can be learnt was learnt."
    )


def source(data: StudyData) -> str:
    return ground_truth.source(data)


def draw(data: StudyData) -> Figure | None:
    rows = shown(data)
    if not rows:
        return None
    figure, grid = style.axes(2, 1, SIZE, sharex=True, height_ratios=[1.9, 0.3 * (len(rows) + 1)])
    upper, lower = grid[:, 0]
    lost = losses(data)
    (near, _) = (
        ax.axvspan(-NEAR, NEAR, color=style.LINE, alpha=0.6, linewidth=0) for ax in (upper, lower)
    )
    for setting in lost:
        (thin,) = upper.plot(lost.index, lost[setting], color=style.MUTED, linewidth=0.8, alpha=0.7)
    enough = lost.notna().mean(axis=1) > 0.5
    (thick,) = upper.plot(
        lost.index[enough], lost.mean(axis=1)[enough], color=style.INK, linewidth=2.6
    )
    key = {near: f"within {10**NEAR:.1f} times the best"}  # first: its place is not shaded
    key |= {thin: "one setting", thick: f"mean of {lost.shape[1]}"}
    upper.legend(key, key.values(), ncols=3, loc="lower center", columnspacing=1.5, borderpad=0)
    upper.set(ylim=(112, -4), yticks=range(0, 101, 20), ylabel="points of accuracy lost")
    upper.tick_params(axis="x", labelbottom=False)
    for place, (words, row) in enumerate(rows):
        _rule(lower, place, words, row, bold=place == 0)
    dot = Line2D([], [], **DOT, label="suggested in one setting")
    lower.legend(handles=[dot], loc="upper left", borderpad=0, handletextpad=0.2)
    _beside(lower, 1, -1, "lost on average", "right")
    lower.set(ylim=(len(rows) - 0.45, -1.75), yticks=[], xlim=(LEFT - 0.1, RIGHT + 0.1))
    lower.set_xticks(
        range(int(LEFT), int(RIGHT) + 1), ["1/1000", "1/100", "a tenth", "best", "×10", "×100"]
    )
    lower.set_xlabel("learning rate, relative to the best one")
    return figure


def _rule(ax: Axes, place: int, words: str, row: ground_truth.Row, bold: bool) -> None:
    of_rule, weight = row.of_rule, "bold" if bold else "normal"
    ax.axhline(place, color=style.LINE, linewidth=0.8)
    shown = row.away[~row.away["is_text"]]
    decades = shown["decades"].clip(LEFT, RIGHT)
    tips = [
        f"{words}, {setting}: {10**away:.2g} times the best rate"
        for setting, away in shown[["setting", "decades"]].itertuples(index=False)
    ]
    style.dots(ax, decades, place + style.jitter(len(decades), 0.05), tips, **DOT)
    lost = f"{100 * of_rule.regret:.0f} points"
    if of_rule.collapse_rate:
        lost += f", {percent(of_rule.collapse_rate)} failed"
    _beside(ax, 0, place, words, "left", weight=weight)
    _beside(ax, 1, place, lost, "right", weight=weight)


def _beside(ax: Axes, x: int, place: float, text: str, side: str, **looks) -> None:
    """``text`` over the line at ``place``, at the left (``x`` 0) or right edge (1)."""
    ax.annotate(
        text,
        (x, place),
        (0, 5),
        xycoords=ax.get_yaxis_transform(),
        textcoords="offset points",
        ha=side,
        fontsize=8.5,
        **looks,
    )
