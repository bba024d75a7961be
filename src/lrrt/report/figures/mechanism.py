"""Why the loss turns: the step beside the largest one that the curvature allows, one seed."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.experiments.stability.design import MEASURED_LRS
from lrrt.report import style, wording
from lrrt.report.figures import APPENDIX
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 300
SECTION = APPENDIX
RUNS_OF = "mechanism"


def choice(data: StudyData) -> list[pd.DataFrame]:
    """Of each protocol as it is, the first run with a measured curvature, by step."""
    table = data.mechanism[data.mechanism["lr"] >= MEASURED_LRS[0]]
    found = []
    for protocol, rows in table.groupby("protocol", sort=False):
        clips = data.config.protocols[protocol].gradient_clip is not None
        mine = rows[(rows["clipped"] == clips) & rows["run"].isin(rows.dropna()["run"])]
        if len(mine):
            found.append(mine[mine["run"] == mine["run"].iloc[0]].sort_values("step"))
    return found


def gaps(data: StudyData) -> dict[str, pd.Series]:
    """By protocol, as it is: of each run the LR at which the loss turns over the one at which
    steps pass the stability bound with momentum."""
    found = {}
    for (protocol, clipped), runs in data.turns.groupby(["protocol", "clipped"], sort=False):
        ratios = (runs["turn"] / runs["crossing"]).dropna()
        if len(ratios) and clipped == (data.config.protocols[protocol].gradient_clip is not None):
            found[protocol] = ratios
    return found


def title(data: StudyData) -> str:
    parts = [
        f"{number(ratios.min())} to {number(ratios.max())} ({wording.name(protocol)})"
        for protocol, ratios in gaps(data).items()
    ]
    if not parts:
        return "No measured step passes the bound at which a quadratic becomes unstable"
    return (
        f"The loss turns at {wording.listed(parts)} times the rate that passes the stability bound"
    )


def caption(data: StudyData) -> str:
    return (
        "Line: the learning rate that acts (times what clipping leaves of the gradient); points: "
        "the largest one at which a quadratic with the measured curvature is stable, with momentum "
        "m: 2 (1 + m) / λ (λ: largest Hessian eigenvalue, Lanczos). Upright line: where the "
        "loss is lowest; one seed a panel, PyTorch."
    )


def draw(data: StudyData) -> Figure | None:
    runs = choice(data)
    if not runs:
        return None
    turns = data.turns.set_index("run")["turn"]
    figure, grid = style.axes(1, len(runs), (style.WIDTH, 2.9), sharex=True, sharey=True)
    for ax, rows in zip(grid[0], runs, strict=True):
        protocol, run = rows["protocol"].iloc[0], rows["run"].iloc[0]
        ax.plot(rows["lr"], rows["effective_lr"], color=style.colour("torch", protocol))
        measured = rows[np.isfinite(rows["momentum_bound"].astype(float))]
        ax.plot(
            measured["lr"],
            measured["momentum_bound"],
            "o-",
            color=style.INK,
            linewidth=0.7,
            markersize=4,
            gid=style.tip("2 (1 + m) / λ"),
        )
        ax.axvline(turns[run], color=style.MUTED, linewidth=1)
        style.line_note(ax, turns[run], f"lowest loss\n{number(turns[run])}")
        style.log_axis(ax, ticks=6)
        style.log_axis(ax, "y", "")
        ax.set_title(f"PyTorch, {wording.name(protocol)}")
    grid[0, 0].set_ylabel("acting LR, bound")
    return figure
