"""Every protocol on every framework: which of the two moves the suggestion?"""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lrrt.analysis.ranges import QUANTITIES
from lrrt.analysis.statistics import are_usable, log_quantiles
from lrrt.analysis.suggestions import curves_file
from lrrt.claims.study import Case
from lrrt.experiments.attribution.tables import BACKEND
from lrrt.report import style, wording
from lrrt.report.figures import WHY
from lrrt.report.study import StudyData

ORDER = 70
SECTION = WHY
SWEEP = "weights"
NEAR = 50  # a narrower span of learning rates has ticks between the decades, too


def cases_in_order(data: StudyData) -> list[Case]:
    """By protocol, its home first."""
    return sorted(data.cases(SWEEP), key=lambda case: (case[1], not data.is_home(case)))


def main_effects(data: StudyData) -> dict[tuple[str, str], dict]:
    """By kind (``protocol``, ``backend``) and quantity, the effect averaged over the other."""
    rows = data.framework
    rows = rows[rows["at"].str.contains(" and ") & np.isfinite(rows["effect"].astype(float))]
    rows = rows[rows["effect_of"].isin(["protocol", BACKEND])]
    return {(row["effect_of"], row["quantity"]): row for row in rows.to_dict("records")}


def title(data: StudyData) -> str:
    effects = main_effects(data)
    kinds = {"protocol": "protocol", BACKEND: "framework"}
    both = [q for q in QUANTITIES if all((kind, q) in effects for kind in kinds)]
    if not both:
        return "Each protocol on each framework"
    clear = [q for q in both if is_clear(effects["protocol", q])]
    quantity = (clear or both)[0]
    words = []
    for kind, name in kinds.items():
        row, of = effects[kind, quantity], wording.name(quantity)
        moves = f"moves {of} {wording.fold(10 ** abs(row['effect']))}"
        found = moves if is_clear(row) else f"makes no clear difference to {of}"
        words.append(f"changing the {name} {found}")
    return "; ".join(words).replace("changing", "Changing", 1)


def is_clear(row: dict) -> bool:
    return not row["low"] <= 0 <= row["high"]


def places(data: StudyData) -> str:
    """On what each framework ran, as a sentence, where that is not the same."""
    found = {}
    for case in data.cases(SWEEP):
        found.setdefault(case[0], set()).update(data.places.get(curves_file((*case, SWEEP)), []))
    if len(set(map(frozenset, found.values()))) < 2:
        return ""
    listed = ", ".join(
        f"{wording.name(backend)} on {' and '.join(map(wording.place, sorted(ran)))}"
        for backend, ran in found.items()
    )
    return f" The framework's effect is also that of device and precision: {listed}."


def caption(data: StudyData) -> str:
    parts = [
        f"{wording.name(quantity)} by {'framework' if kind == BACKEND else kind} ×"
        f"{wording.multiple(row)} (n = {row['n']})"
        for (kind, quantity), row in sorted(main_effects(data).items())
    ]
    effects = f" Effects with the same weights and batches: {'; '.join(parts)}." if parts else ""
    return (
        "Each dot is a range test; ticks: medians. The four rows share their weights and batches."
        f"{effects}{places(data)}"
    )


def draw(data: StudyData) -> Figure | None:
    cases = cases_in_order(data)
    if len({backend for backend, _ in cases}) < 2:
        return None
    long = pd.concat(
        [
            data.own_suggestions(SWEEP, case).assign(case=wording.case(*case).replace(", ", ",\n"))
            for case in cases
        ],
        ignore_index=True,
    )
    palette = {wording.case(*case).replace(", ", ",\n"): style.colour(*case) for case in cases}
    figure, grid = style.axes(
        1, len(QUANTITIES), (style.WIDTH, 0.9 + 0.62 * len(cases)), sharey=True
    )
    drawn = False
    for ax, quantity in zip(grid[0], QUANTITIES, strict=True):
        rows = long[are_usable(long[quantity])]
        drawn |= bool(len(rows))
        near = len(rows) and rows[quantity].max() < NEAR * rows[quantity].min()
        style.log_axis(ax, text=wording.name(quantity), subdivided=near, ticks=6)
        sns.stripplot(
            rows,
            x=quantity,
            y="case",
            hue="case",
            palette=palette,
            order=list(palette),
            jitter=False,
            alpha=0.55,
            size=5,
            legend=False,
            ax=ax,
        )
        for place, name in enumerate(palette):
            values = rows.loc[rows["case"] == name, quantity]
            if len(values):
                median = log_quantiles(values, [0.5])[0]
                ax.plot([median], [place], "|", color=style.INK, markersize=16, markeredgewidth=2)
                ax.annotate(
                    wording.number(median),
                    (median, place),
                    (0, 9),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                )
        ax.set(xlabel=wording.name(quantity), ylabel="")
        ax.set_ylim(len(cases) - 0.4, -0.7)
    return figure if drawn else None
