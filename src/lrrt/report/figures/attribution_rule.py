"""Which part of a rule fired: how often its fallback, and what min LR would be otherwise."""

import numpy as np
from matplotlib.figure import Figure

from lrrt.report import style, wording
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 62
SECTION = "Initial weights and batch order"
TITLE = "Min LR: found in the curve, or a tenth of max LR"
NEEDS = "a rule that fell back in at least one run"
SERIES = {
    "fell_back": ("where it fell back", "s", style.VALIDATION_COLOUR),
    "steepest": ("there, by the steepest descent", "o", style.TRAIN_COLOUR),
    "found": ("where it found a descent", "D", style.INK),
}


def _label(row: dict) -> str:
    words = f"{wording.case(row['backend'], row['protocol'])}, {row['sweep']}"
    return words.replace("_", " ")


def headline(data: StudyData) -> str:
    """One sentence a protocol, of the weights sweep on the backend that the post ran it on."""
    sentences = []
    for row in data.fired.to_dict("records"):
        if row["sweep"] != "weights" or not data.is_home((row["backend"], row["protocol"])):
            continue
        instead = (
            f"; in the median {number(row['fell_back'])} there, where the steepest descent is at "
            f"{number(row['steepest'])}"
        )
        sentences.append(
            f"In {row['fallbacks']} of {row['n']} runs of {wording.name(row['protocol'])} min LR "
            f"was not found in the curve but is the rule's silent fallback, max LR / 10 (share "
            f"{row['share']:.0%} [{row['low']:.0%}, {row['high']:.0%}])"
            f"{instead if row['fallbacks'] else ''}."
        )
    return " ".join(sentences)


def caption(data: StudyData) -> str:
    return (
        "Left: share of runs, by sweep, in which the rule's min LR was its fallback, a tenth of "
        "its max LR; bars: 95 % exact interval. Right: median min LR of those runs, that of the "
        "same runs by the steepest descent of the whole smoothed curve (the fastai protocol's "
        f"rule), and that of the runs in which the rule found a descent. {headline(data)}"
    )


def draw(data: StudyData) -> Figure | None:
    table = data.fired
    if not len(table):
        return None
    figure, grid = style.axes(1, 2, (8.6, 1.5 + 0.36 * len(table)), sharey=True)
    left, right = grid[0]
    for line, row in enumerate(table.to_dict("records")):
        shade = style.colour(row["backend"], row["protocol"])
        words = f"{_label(row)}: {row['fallbacks']} of {row['n']} runs fell back"
        left.plot([row["low"], row["high"]], [line, line], color=shade, linewidth=1.4)
        left.plot([row["share"]], [line], "o", color=shade, markersize=6, gid=style.tip(words))
        for i, (name, (text, marker, colour)) in enumerate(SERIES.items()):
            if np.isfinite(row[name]):
                words = f"{_label(row)}, {text}: {number(row[name], 3)}"
                right.plot(
                    [row[name]],
                    [line + 0.14 * (i - 1)],
                    marker,
                    color=colour,
                    markersize=5.5,
                    linestyle="none",
                    gid=style.tip(words),
                )
    left.set(
        yticks=range(len(table)),
        yticklabels=[_label(row) for row in table.to_dict("records")],
        ylim=(len(table) - 0.4, -0.6),
        xlim=(-0.04, 1.04),
        xlabel="share of runs",
        title="fallback",
    )
    right.set_title("median min LR")
    lrs = table[list(SERIES)].to_numpy(np.float64)
    low, high = np.nanmin(lrs), np.nanmax(lrs)
    style.log_axis(right, subdivided=high < 50 * low)
    right.set_xlim(low / 1.5, high * 1.5)
    for text, marker, colour in SERIES.values():
        right.plot([], [], marker, color=colour, linestyle="none", label=text)
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles), fontsize=8)
    return figure
