"""All rules on the same curves: how much of a suggestion is the rule's?"""

import numpy as np
from matplotlib.figure import Figure

from lrrt.analysis.statistics import log_quantiles
from lrrt.report import style, wording
from lrrt.report.study import StudyData, of_case
from lrrt.report.wording import number

ORDER = 130
SECTION = "Rules"
TITLE = "Rules compared on the same curves"
NEEDS = "suggestions for a weights sweep"
SWEEP = "weights"


def caption(data: StudyData) -> str:
    rows = data.suggestions[data.suggestions["sweep"] == SWEEP]
    medians = []
    for case in data.cases(SWEEP):
        group = of_case(rows, case)
        by_rule = group.groupby("rule")["max_lr"].apply(lambda v: log_quantiles(v, [0.5])[0])
        by_rule = by_rule.dropna()
        if len(by_rule) > 1:
            medians.append(
                f"{wording.case(*case)}: {number(by_rule.min())} to {number(by_rule.max())}"
            )
    runs = rows[["backend", "protocol", "run"]].drop_duplicates()
    return (
        f"{rows['rule'].nunique()} rules, each on the n = {len(runs)} curves of the weights sweep "
        "as that case's protocol records them. Hollow: min LR; filled: max LR; black ticks: "
        "medians (log10); every dot is a run, none where a rule abstains. An arrow marks the rule "
        f"of the case's protocol. Medians of max LR by rule: {'; '.join(medians)}."
    )


def draw(data: StudyData) -> Figure | None:
    rows = data.suggestions[data.suggestions["sweep"] == SWEEP]
    cases = data.cases(SWEEP)
    rules = sorted(rows["rule"].unique(), reverse=True)
    if not rules or not cases:
        return None
    columns = min(2, len(cases))
    lines = -(-len(cases) // columns)
    figure, grid = style.axes(
        lines, columns, (8.6, 0.8 + lines * (0.5 + 0.23 * len(rules))), sharex=True, sharey=True
    )
    for ax in grid.flat[len(cases) :]:
        ax.set_visible(False)
    for ax, case in zip(grid.flat, cases, strict=False):
        own = data.config.protocols[case[1]].rule
        shade = style.colour(*case)
        for position, rule in enumerate(rules):
            found = of_case(rows[rows["rule"] == rule], case)
            for quantity, fill in (("min_lr", "white"), ("max_lr", shade)):
                used = found[found[quantity] > 0]
                if not len(used):
                    continue
                median = log_quantiles(used[quantity], [0.5])[0]
                ax.plot(
                    used[quantity],
                    position + style.jitter(len(used)),
                    "o",
                    markersize=3.6,
                    color=shade,
                    markerfacecolor=fill,
                    markeredgewidth=0.7,
                    alpha=0.8,
                    rasterized=len(used) > style.HOVERED,
                    gid=style.tip(
                        f"{rule}, {wording.name(quantity)}: median {number(median, 3)}, from "
                        f"{number(used[quantity].min(), 3)} to "
                        f"{number(used[quantity].max(), 3)}, {len(used)} of {len(found)} runs"
                    ),
                )
                ax.plot(
                    [median], [position], "|", color=style.INK, markersize=11, markeredgewidth=1.6
                )
            if rule == own:
                ax.annotate(
                    "▸",
                    (0, position),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    ha="left",
                    color=style.INK,
                )
        ax.set(yticks=np.arange(len(rules)), yticklabels=rules, ylim=(-0.7, len(rules) - 0.3))
        ax.set_title(wording.case(*case))
        style.log_axis(ax)
        ax.label_outer()
    return figure
