"""Where the spread of the suggested LR comes from, and how much is left with weights fixed."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrrt.analysis.dispersion import QUANTITIES
from lrrt.analysis.variance import TOTAL
from lrrt.report import style
from lrrt.report.study import StudyData
from lrrt.report.style import number

ORDER = 67
SECTION = "Initial weights and batch order"
TITLE = "Where the spread comes from: weights, batch order or augmentation"
NEEDS = "a crossed design of weights, orders and augmentations (variance.weights)"
WEIGHTS, BATCHES = "weights", "order:augmentation"
NO_REDUCTION = 0.995  # shown as 1.0


def _words(name: str) -> str:
    return name.replace(":", " × ")


def _fixed(name: str) -> str:
    parts = name.split(":")
    return f"same {' and '.join(parts)}"


def interval(low: float, high: float) -> str:
    return f"[{number(low)}, {number(high)}]"


def case_words(row: dict) -> str:
    """Quantity and protocol, as a sentence begins."""
    words = f"{style.name(row['quantity'])} of {style.name(row['protocol'])}"
    return words[0].upper() + words[1:]


def findings(data: StudyData) -> list[str]:
    """Of each protocol and quantity: what fixing the weights leaves of the spread, and whether
    fixing the batches leaves less. A reduction is shown where its interval leaves 1 out."""
    sentences = []
    table = data.variance_spread
    for _, rows in table.groupby(["backend", "protocol", "depth", "quantity"], sort=False):
        by = {row["fixed"]: row for row in rows.to_dict("records")}
        weights = by[WEIGHTS]
        if not np.isfinite(weights["ratio"]):
            sentences.append(f"{case_words(weights)}: {weights['reason'] or 'no spread'}.")
            continue
        batches = by[BATCHES if BATCHES in by else "order"]
        sentences.append(
            f"{case_words(weights)} spreads over {number(weights['all'])} decades (standard "
            f"deviation). The same weights leave {_leaves(weights)}, the same batches "
            f"{_leaves(batches)}: {_comparison(batches)}."
        )
    return sentences


def _leaves(row: dict) -> str:
    text = f"{number(row['ratio'])} of it {interval(row['low'], row['high'])}"
    return text if row["high"] < NO_REDUCTION else f"{text} (no reduction shown)"


def _comparison(batches: dict) -> str:
    low, high = batches["to_weights_low"], batches["to_weights_high"]
    if high < 1:
        return "the batches do more"
    if low > 1:
        return "the weights do more"
    return "these runs do not tell which does more"


def caption(data: StudyData) -> str:
    table = data.variance
    depths = table["depth"].unique()
    network = " and ".join(f"{data.config.model.name}-{depth}" for depth in depths)
    counts = []
    for _, rows in table.groupby(["backend", "protocol"], sort=False):
        row = rows.iloc[0]
        used = sorted(set(rows["n"]))
        words = f"{style.short_label(row['backend'], row['protocol'])}: n = "
        words += " and ".join(map(str, used)) + " runs"
        dropped = int(rows["dropped"].max())
        words += f", up to {dropped} left out for want of a suggestion" if dropped else ""
        counts.append(words)
    settings = data.config.variance
    factors = f"{settings.weights} initial weights × {settings.orders} batch orders"
    if settings.augmentations > 1:
        factors += f" × {settings.augmentations} augmentations"
    else:
        factors += " (the augmentation goes with the order)"
    return (
        f"{network}, all combinations of {factors}, each once ({'; '.join(counts)}). Above: share "
        "of the variance of log10 LR due to each factor and interaction (a negative estimate "
        "counts as 0). Below: standard deviation that is left where what is named is the same in "
        "all runs, relative to all new. Bars: 95 % generalised confidence intervals for normal "
        f"effects; wide, since few levels tell little about a variance. {' '.join(findings(data))}"
    )


def draw(data: StudyData) -> Figure | None:
    table, spread = data.variance, data.variance_spread
    if not len(table) or not np.isfinite(table["share"]).any():
        return None
    table = table[table["component"] != TOTAL]
    components, fixed = (
        sorted(set(names), key=lambda name: (name.count(":"), _place(name)))
        for names in (table["component"], spread["fixed"])
    )
    figure, grid = style.axes(
        2, 2, (8.6, 2.4 + 0.34 * (len(components) + len(fixed))), sharey="row",
        height_ratios=[len(components), len(fixed)],
    )  # fmt: skip
    for column, quantity in enumerate(QUANTITIES):
        upper, lower = grid[:, column]
        _lines(upper, table[table["quantity"] == quantity], "component", components, "share")
        _lines(lower, spread[spread["quantity"] == quantity], "fixed", fixed, "ratio")
        upper.set(xlabel="share of the variance", title=style.name(quantity))
        lower.set(xlabel="spread left, of all new = 1")
        lower.axvline(1, color=style.MUTED, linewidth=0.8, zorder=0)
    grid[0, 0].set_yticks(range(len(components)), [_words(name) for name in components])
    grid[1, 0].set_yticks(range(len(fixed)), [_fixed(name) for name in fixed])
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles), fontsize=8)
    return figure


def _place(name: str) -> list[int]:
    return [("weights", "order", "augmentation").index(part) for part in name.split(":")]


def _lines(ax: Axes, rows: pd.DataFrame, key: str, names: list[str], value: str) -> None:
    """A dot with its interval per case and name."""
    cases = rows[["backend", "protocol"]].drop_duplicates().to_records(index=False).tolist()
    for i, case in enumerate(cases):
        shade = style.colour(*case)
        side = 0.18 * (2 * i - len(cases) + 1)
        mine = rows[rows["backend"].eq(case[0]) & rows["protocol"].eq(case[1])]
        for row in mine.to_dict("records"):
            line = names.index(row[key]) + side
            what = _words(row[key]) if key == "component" else _fixed(row[key])
            words = f"{style.short_label(*case)}, {what}: {number(row[value])} "
            words += f"{interval(row['low'], row['high'])}, n = {row['n']}"
            ax.plot([row["low"], row["high"]], [line, line], color=shade, linewidth=1.4)
            ax.plot([row[value]], [line], "o", color=shade, markersize=5.5, gid=style.tip(words))
        ax.plot([], [], "o-", color=shade, label=style.short_label(*case))
    ax.set(xlim=(-0.03, 1.06), ylim=(len(names) - 0.4, -0.6))
