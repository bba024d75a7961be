"""Does the same range test say the same, when only rounding differs?"""

import numpy as np
from matplotlib.figure import Figure

from lrrt.analysis.ranges import QUANTITIES
from lrrt.analysis.statistics import MINIMUM_RUNS, are_usable
from lrrt.experiments.sweep.rounding import REPEATED
from lrrt.experiments.sweep.tables import curves_file
from lrrt.report import style, wording
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 61
SECTION = "Initial weights and batch order"
TITLE = "The same weights and batches, other rounding"
NEEDS = (
    "the sweep rounding or rounding_order, of a backend whose weights or order sweep ran elsewhere"
)


def _size(row: dict) -> str:
    name = wording.name(row["quantity"])
    if row["rounding"] == row["effect"] == 0:
        return f"{name} is the same in all {row['n']}"
    share = f"{row['share']:.0%} [{row['share_low']:.0%}, {row['share_high']:.0%}]"
    return (
        f"{name} scatters by {number(row['rounding'])} decades ({share} of the variance, the seeds "
        f"scatter it by {number(row['seeds'])}; n = {row['n']}) and moves by {wording.effect(row)}"
    )


def _name(case: tuple[str, str, str]) -> str:
    sweep, *case = case
    return f"{wording.case(*case)}, {'new' if sweep == 'weights' else 'same'} weights"


def headline(data: StudyData) -> str:
    parts = []
    for case, rows in data.rounding.groupby(["sweep", "backend", "protocol"], sort=False):
        told = rows[rows["share"].notna() & (rows["n"] >= MINIMUM_RUNS)]
        if len(told):
            sizes = "; ".join(_size(row) for row in told.to_dict("records"))
            parts.append(f"{_name(case)}: {sizes}")
    return (
        ""
        if not parts
        else (f"The same weights, batches and code on other arithmetic: {'. '.join(parts)}.")
    )


def _places(data: StudyData, again: bool) -> str:
    cases = data.rounded[["sweep", "backend", "protocol"]].drop_duplicates()
    found = []
    for sweep, *case in cases.itertuples(index=False):
        found += data.places.get(curves_file((*case, REPEATED[sweep] if again else sweep)), [])
    return "; ".join(dict.fromkeys(found)) or ("again" if again else "at first")


def caption(data: StudyData) -> str:
    moved = "; ".join(
        f"{_name((row['sweep'], row['backend'], row['protocol']))}, "
        f"{wording.name(row['quantity'])} {wording.effect(row)} (n = {row['n']})"
        for row in data.rounding.to_dict("records")
        if np.isfinite(row["effect"])
    )
    return (
        "A dot is a range test done twice with the same initial weights, batches and code: in the "
        f"study's sweeps ({_places(data, again=False)}) and again ({_places(data, again=True)}); "
        "hollow: runs that all have the same weights. On the line both suggest the same LR. "
        "Squares: in either, min LR was the rule's fallback. Mean difference of log10, the latter "
        f"less the former (95 % t interval): {moved}. {headline(data)} Shares with their exact F "
        f"interval; of fewer than {MINIMUM_RUNS} pairs none is told."
    )


def draw(data: StudyData) -> Figure | None:
    paired = data.rounded
    if not len(paired):
        return None
    figure, grid = style.axes(1, 2, (8.6, 4.3))
    for ax, quantity in zip(grid[0], QUANTITIES, strict=True):
        drawn = []
        for case, rows in paired.groupby(["backend", "protocol"], sort=True):
            for row in rows.to_dict("records"):
                x, y = row[f"{quantity}_rounded"], row[quantity]
                if not are_usable([x, y]).all():
                    continue
                drawn += [x, y]
                fell = quantity == "min_lr" and (row["fallback"] or row["fallback_rounded"])
                words = (
                    f"{wording.case(*case)}, weights seed {row['weights_seed']}, "
                    f"order seed {row['order_seed']}: "
                    f"{wording.name(quantity)} {number(y, 3)}, again {number(x, 3)}"
                )
                shade = style.colour(*case)
                ax.plot(
                    [x],
                    [y],
                    "s" if fell else "o",
                    color=shade,
                    markersize=6,
                    alpha=0.85,
                    markerfacecolor=shade if row["sweep"] == "weights" else "white",
                    linestyle="none",
                    gid=style.tip(words),
                )
            ax.plot(
                [],
                [],
                "o",
                color=style.colour(*case),
                linestyle="none",
                label=wording.case(*case),
            )
        ends = (min(drawn) / 2, max(drawn) * 2) if drawn else (1e-4, 10)
        ax.plot(ends, ends, color=style.MUTED, linewidth=0.9, zorder=0)
        style.log_axis(ax, "x", f"{wording.name(quantity)}, {_places(data, again=True)}")
        style.log_axis(ax, "y", f"{wording.name(quantity)}, {_places(data, again=False)}")
        ax.set(xlim=ends, ylim=ends, aspect="equal", title=wording.name(quantity))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles))
    return figure
