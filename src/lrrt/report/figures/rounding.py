"""Does the same range test say the same, when only rounding differs?"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.analysis.statistics import are_usable
from lrrt.analysis.suggestions import curves_file
from lrrt.experiments.sweep.rounding import REPEATED
from lrrt.report import style, wording
from lrrt.report.figures import APPENDIX, _trainings
from lrrt.report.study import StudyData, of_case
from lrrt.report.wording import number

ORDER = 250
SECTION = APPENDIX


def _usable(data: StudyData) -> pd.DataFrame:
    rows = data.rounding_pairs
    return rows[are_usable(rows[["max_lr", "max_lr_rounded"]]).all(axis=1)] if len(rows) else rows


def title(data: StudyData) -> str:
    rows = _usable(data)
    most = np.abs(np.log10(rows["max_lr"] / rows["max_lr_rounded"])).max()
    return f"Same seed, other hardware: max LR moves up to {wording.fold(10**most)}"


def places(data: StudyData, again: bool) -> str:
    """On what the runs ran: "GPU", "CPU"."""
    cases = data.rounding_pairs[["sweep", "backend", "protocol"]].drop_duplicates()
    found = []
    for sweep, *case in cases.itertuples(index=False):
        found += data.places.get(curves_file((*case, REPEATED[sweep] if again else sweep)), [])
    known = dict.fromkeys("GPU" if "cuda" in place else "CPU" for place in found)
    precisions = dict.fromkeys(wording.name(place.split(", ")[-1]) for place in found)
    return f"{' or '.join(known)}, {' or '.join(precisions)}" if found else "first"


def caption(data: StudyData) -> str:
    return (
        f"A dot is a range test done twice with the same initial weights, batches and code (n = "
        f"{len(_usable(data))}); on the line both suggest the same maximum. Filled: new weights "
        "each; hollow: runs that share their weights."
    )


def draw(data: StudyData) -> Figure | None:
    rows = _usable(data)
    if not len(rows):
        return None
    figure, grid = style.axes(1, 1, (3.8, 3.7))
    ax = grid[0, 0]
    for case in _trainings.cases(data, rows):
        shade = style.colour(*case)
        for row in of_case(rows, case).itertuples():
            ax.plot(
                [row.max_lr_rounded],
                [row.max_lr],
                "o",
                color=shade,
                alpha=0.85,
                markerfacecolor=shade if row.sweep == "weights" else style.PLATE,
                gid=style.tip(
                    f"{wording.case(*case)}, weights seed {row.weights_seed}, order seed "
                    f"{row.order_seed}: {number(row.max_lr, 3)}, again "
                    f"{number(row.max_lr_rounded, 3)}"
                ),
            )
        ax.plot([], [], "o", color=shade, linestyle="none", label=wording.case(*case))
    values = rows[["max_lr", "max_lr_rounded"]].to_numpy(float)
    ends = (values.min() / 2, values.max() * 2)
    ax.plot(ends, ends, color=style.MUTED, linewidth=0.9, zorder=0)
    style.log_axis(ax, "x", f"max LR, {places(data, again=True)}")
    style.log_axis(ax, "y", f"max LR, {places(data, again=False)}")
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    figure.legend(*ax.get_legend_handles_labels())
    return figure
