"""The ramp beside trainings at a constant learning rate from the same weights."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrrt.experiments.sensitivity.tables import LAST
from lrrt.report import style, wording
from lrrt.report.figures import APPENDIX, _trainings
from lrrt.report.study import StudyData, of_case

ORDER = 240
SECTION = APPENDIX
RUNS_OF = "instrument"


def title(data: StudyData) -> str:
    rows = data.instrument
    rows = rows[(rows["setting"] == "restarts") & rows["value"].str.endswith("lowest")]
    parts = [
        f"{wording.number(10**row.effect)} ({wording.name(row.protocol)})"
        for row in rows.dropna(subset=["effect"]).itertuples()
    ]
    if not parts:
        return "The ramp beside trainings at a constant learning rate"
    return (
        f"The best constant learning rate is {wording.listed(parts)} times the rate at which the "
        "loss of the ramp is lowest"
    )


def caption(data: StudyData) -> str:
    steps = data.instrument_restarts["steps"].iloc[0]
    return (
        f"Solid: change of the loss after {steps} steps at a constant learning rate (mean of the "
        f"last {LAST} steps less the first); dashed: of the ramp from the same weights at that "
        "learning rate. A line is one set of weights."
    )


def draw(data: StudyData) -> Figure | None:
    table = data.instrument_restarts
    if not len(table):
        return None
    cases = _trainings.cases(data, table)
    figure, grid = style.axes(1, len(cases), (style.WIDTH, 2.9))
    for ax, case in zip(grid[0], cases, strict=True):
        _panel(ax, of_case(table, case), style.colour(*case))
        ax.set_title(wording.case(*case))
    grid[0, 0].set_ylabel("change of the loss (nats)")
    return figure


def _panel(ax: Axes, rows, shade: str) -> None:
    top = 0.5 * float(rows["first_loss"].median())
    ax.axhline(0, color=style.MUTED, linewidth=0.8)
    lowest = 0.0
    for column, text, looks in (
        ("ramp_loss", "the ramp", {"color": style.MUTED, "linestyle": "--"}),
        ("loss", "constant learning rate", {"color": shade}),
    ):
        for seed, run in rows.groupby("weights_seed"):
            run = run.sort_values("lr")
            change = style.below((run[column] - run["first_loss"]).to_numpy(), top)
            lowest = min(lowest, float(change.min()))
            words = f"{text}, weights seed {seed}"
            ax.plot(run["lr"], change, linewidth=1.1, gid=style.tip(words), **looks)
    ax.set_ylim(1.15 * lowest - 0.05, top)
    style.log_axis(ax, ticks=6)
