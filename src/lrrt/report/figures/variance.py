"""Where the spread of the suggested LR comes from, and how much is left with weights fixed."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrrt.analysis.ranges import QUANTITIES
from lrrt.experiments.variance.tables import TOTAL
from lrrt.report import style, wording
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 67
SECTION = "Initial weights and batch order"
TITLE = "Where the spread comes from: weights, batch order or augmentation"
NEEDS = "a crossed design of weights, orders and augmentations (variance.weights)"
RUNS_OF = "variance"
WEIGHTS, BATCHES = "weights", "order:augmentation"
NO_REDUCTION = 0.995  # shown as 1.0
ODD = {
    "early": "min LR in the ramp's first decade, where the loss moves with the batches alone",
    "reversed": "min LR above max LR",
}
BATCHES_DO, WEIGHTS_DO = "fixing the batches does more", "fixing the weights does more"
UNTOLD = "these runs do not tell whether fixing the batches does more"


def _words(name: str) -> str:
    return name.replace(":", " × ")


def _fixed(name: str) -> str:
    parts = name.split(":")
    return f"same {' and '.join(parts)}"


def interval(low: float, high: float) -> str:
    return f"[{number(low)}, {number(high)}]"


def findings(data: StudyData) -> list[str]:
    """Of each protocol: what fixing the weights leaves of the spread, whether that is less, and
    whether fixing the batches leaves less still. It is as far as an interval leaves 1 out."""
    sentences = []
    for (_, protocol), rows in data.variance_spread.groupby(["backend", "protocol"], sort=False):
        weights, batches = {}, {}
        for quantity, mine in rows.groupby("quantity", sort=False):
            by = {row["fixed"]: row for row in mine.to_dict("records")}
            row = by[WEIGHTS]
            if np.isfinite(row["ratio"]):
                weights[quantity] = row
                batches[quantity] = by[BATCHES if BATCHES in by else "order"]
            else:
                words = f"{wording.name(quantity)} of {wording.name(protocol)}: {row['reason']}."
                sentences.append(words[0].upper() + words[1:])
        if not weights:
            continue
        names = _listed(wording.name(quantity) for quantity in weights)
        spreads = _listed(number(row["all"]) for row in weights.values())
        sentences.append(
            f"By {wording.name(protocol)}, {names} spread over {spreads} decades (standard "
            f"deviation, all combinations of weights and batches). The same weights leave "
            f"{_leaves(*weights.values())} of it, the same batches {_leaves(*batches.values())}: "
            f"{_reduction(weights)}; {_comparison(batches)}. With one seed left out the "
            f"weights' would be {_listed(map(_otherwise, weights.values()))}."
            f"{_odd(weights)}"
        )
    return sentences


def headline(data: StudyData) -> str:
    """What fixing the weights leaves of the spread, by protocol."""
    parts = []
    spread = data.variance_spread
    for protocol, rows in spread[spread["fixed"] == WEIGHTS].groupby("protocol", sort=False):
        left = [
            f"{wording.name(row['quantity'])} {_leaves(row)}{_sound(row)}"
            for row in rows.to_dict("records")
            if np.isfinite(row["ratio"])
        ]
        if left:
            parts.append(f"by {wording.name(protocol)}, {'; '.join(left)}")
    if not parts:
        return ""
    scale = data.scale_of(data.config.variance)
    return f"Of the spread ({scale}) the same weights leave: {'; '.join(parts)}."


def _sound(row: dict) -> str:
    """What the odd runs do to a ratio, where there are any."""
    if not np.isfinite(row["sound"]):
        return ""
    odd = [f"{row[name]} with {words}" for name, words in ODD.items() if row[name]]
    return (
        f" (in the {row['sound_n']} of {row['n']} runs that are a complete design without "
        f"{_listed(odd)}, {number(row['sound'])} {interval(row['sound_low'], row['sound_high'])})"
    )


def _odd(weights: dict[str, dict]) -> str:
    told = [f"{wording.name(name)}{_sound(row)}" for name, row in weights.items() if _sound(row)]
    return f" Odd runs: {'; '.join(told)}." if told else ""


def _listed(words: Iterable[str]) -> str:
    return " and ".join(words)


def _leaves(*rows: dict) -> str:
    return _listed(f"{number(row['ratio'])} {interval(row['low'], row['high'])}" for row in rows)


def _otherwise(row: dict) -> str:
    return f"{number(row['least'])} to {number(row['most'])}"


def _reduction(weights: dict[str, dict]) -> str:
    """A reduction is shown where neither the interval nor any seed or the odd runs left out take it
    away."""
    shown = [
        wording.name(name)
        for name, row in weights.items()
        if np.nanmax([row["high"], row["most"], row["sound_high"]]) < NO_REDUCTION
    ]
    if not shown:
        return "fixing the weights is not shown to reduce it"
    which = "it" if len(shown) == len(weights) else f"that of {_listed(shown)}"
    return f"fixing the weights reduces {which}"


def _comparison(batches: dict[str, dict]) -> str:
    """Which does more, by quantity where they differ."""
    answers = {}
    for quantity, row in batches.items():
        low, high = row["to_weights_low"], row["to_weights_high"]
        more = BATCHES_DO if high < 1 else WEIGHTS_DO if low > 1 else UNTOLD
        answers.setdefault(more, []).append(wording.name(quantity))
    if len(answers) == 1:
        return next(iter(answers))
    return ", ".join(f"for {_listed(names)} {answer}" for answer, names in answers.items())


def caption(data: StudyData) -> str:
    table = data.variance
    counts = []
    for _, rows in table.groupby(["backend", "protocol"], sort=False):
        row = rows.iloc[0]
        used = sorted(set(rows["n"]))
        words = f"{wording.case(row['backend'], row['protocol'])}: n = "
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
        f"{data.scale_of(settings)}: all combinations of {factors}, each once "
        f"({'; '.join(counts)}). Above: share "
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
        2,
        2,
        (8.6, 2.4 + 0.34 * (len(components) + len(fixed))),
        sharey="row",
        height_ratios=[len(components), len(fixed)],
    )
    for column, quantity in enumerate(QUANTITIES):
        upper, lower = grid[:, column]
        _lines(upper, table[table["quantity"] == quantity], "component", components, "share")
        _lines(lower, spread[spread["quantity"] == quantity], "fixed", fixed, "ratio")
        upper.set(xlabel="share of the variance", title=wording.name(quantity))
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
            words = f"{wording.case(*case)}, {what}: {number(row[value])} "
            words += f"{interval(row['low'], row['high'])}, n = {row['n']}"
            ax.plot([row["low"], row["high"]], [line, line], color=shade, linewidth=1.4)
            ax.plot([row[value]], [line], "o", color=shade, markersize=5.5, gid=style.tip(words))
        ax.plot([], [], "o-", color=shade, label=wording.case(*case))
    ax.set(xlim=(-0.03, 1.06), ylim=(len(names) - 0.4, -0.6))
