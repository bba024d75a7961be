"""Rules on the same curves: how far does each scatter, and where?"""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from lrrt.analysis.statistics import MINIMUM_RUNS, log_quantiles, usable
from lrrt.claims.study import Case
from lrrt.report import style, wording
from lrrt.report.figures import RULE
from lrrt.report.study import StudyData, of_case
from lrrt.report.wording import number

ORDER = 60
SECTION = RULE
SWEEP = "weights"
#: Of each finder what it suggests unless asked otherwise, beside the protocols' own rules; the
#: table of suggestions has all rules.
FINDERS = (
    "edge",
    "fastai_valley",
    "fastai_steep",
    "fastai_slide",
    "ignite",
    "keras_lr_finder",
    "lightning",
    "torch_lr_finder",
)


class Bar(NamedTuple):
    """The suggestions of one rule and quantity: 10 %, median, 90 % quantile, and of how many."""

    name: str
    low: float
    median: float
    high: float
    n: int
    runs: int

    @property
    def ratio(self) -> float:
        return self.high / self.low


def bars(data: StudyData, case: Case) -> list[Bar]:
    """One for each rule, and quantity where it suggests two; the steadiest first."""
    rows = of_case(data.suggestions[data.suggestions["sweep"] == SWEEP], case)
    rows = rows[rows["rule"].isin([*FINDERS, data.config.protocols[case[1]].rule])]
    rows = rows[rows["batch_size"] == data.config.sweep.batch_size]
    found = []
    for rule, mine in rows.groupby("rule"):
        both = [q for q in ("min_lr", "max_lr") if len(usable(mine[q]))]
        for quantity in both:
            values = usable(mine[quantity])
            low, high = data.config.report.loss_quantiles
            part = f", {wording.name(quantity)}" if len(both) > 1 else ""
            found.append(
                Bar(
                    f"{rule}{part}",
                    *log_quantiles(values, [low, 0.5, high]),
                    len(values),
                    len(mine),
                )
            )
    return sorted(found, key=lambda bar: (bar.ratio, bar.name))


def title(data: StudyData) -> str:
    if max(bar.n for case in data.home_cases(SWEEP) for bar in bars(data, case)) < MINIMUM_RUNS:
        return "What every finder's rule suggests on the same curves"
    worst = [(bars(data, case)[-1], case) for case in data.home_cases(SWEEP) if bars(data, case)]
    bar, case = max(worst, key=lambda found: found[0].ratio)
    steadiest = bars(data, case)[0]
    return (
        f"On the same curves {steadiest.name} scatters least, {wording.fold(steadiest.ratio)}, "
        f"and {bar.name} most, {wording.fold(bar.ratio)} ({wording.name(case[1])})"
    )


def caption(data: StudyData) -> str:
    counts = sorted({bar.runs for case in data.home_cases(SWEEP) for bar in bars(data, case)})
    return (
        f"Each rule on the same range tests (n = {wording.listed(map(str, counts))} a panel), as "
        "the protocol records them: median and 10 to 90 % of the suggestions, their ratio to the "
        "right; the steadiest rule on top. A steady rule need not be a good one: some suggest "
        "a safe minimum, others a maximum."
    )


def draw(data: StudyData) -> Figure | None:
    found = {case: bars(data, case) for case in data.home_cases(SWEEP)}
    found = {case: rows for case, rows in found.items() if rows}
    if not found:
        return None
    counts = [len(rows) for rows in found.values()]
    figure, grid = style.axes(
        len(found),
        1,
        (style.WIDTH, 0.8 + 0.45 * len(found) + 0.2 * sum(counts)),
        sharex=True,
        height_ratios=counts,
    )
    for ax, (case, rows) in zip(grid[:, 0], found.items(), strict=True):
        shade = style.colour(*case)
        for place, bar in enumerate(rows):
            words = (
                f"{bar.name}: median {number(bar.median, 3)}, {number(bar.low, 3)} to "
                f"{number(bar.high, 3)}, {bar.n} of {bar.runs} runs"
            )
            rates = bar.low, bar.median, bar.high
            style.span(ax, place, *rates, text=words, color=shade, linewidth=6, tick=9)
            style.margin_note(ax, place, wording.times(bar.ratio))
        ax.set(yticks=np.arange(len(rows)), yticklabels=[bar.name for bar in rows])
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.grid(False, axis="y")
        ax.set_title(wording.case(*case))
        style.log_axis(ax, text="suggested learning rate" if ax is grid[-1, 0] else "", ticks=10)
    return figure
