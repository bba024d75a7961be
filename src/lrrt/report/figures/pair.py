"""Runs A and B of a case: two initialisations, two curves, two suggested ranges."""

from matplotlib.figure import Figure

from lrrt.analysis.evidence import Case, Trace
from lrrt.report import style, wording
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 70
SECTION = "A's range on B's weights"
TITLE = "Two initialisations, two ranges"
NEEDS = "a pair of runs with suggestions, chosen by the divergence stage from a weights sweep"
SWEEP = "weights"


def cases(data: StudyData) -> list[Case]:
    return [case for case in data.cases(SWEEP) if _complete(data.pairs.get("-".join(case)))]


def _complete(pair: dict | None) -> bool:
    return bool(pair) and all(
        pair.get(letter) and pair[letter].get("max_lr") is not None for letter in "AB"
    )


def title(case: Case) -> str:
    return f"{TITLE}: {wording.case(*case)}"


def _runs(data: StudyData, case: Case) -> dict[str, Trace]:
    pair = data.pairs["-".join(case)]
    traces = {trace.run: trace for trace in data.traces(SWEEP, case)}
    return {letter: traces[pair[letter]["run"]] for letter in "AB" if pair[letter]["run"] in traces}


def verdict(pair: dict) -> str:
    """Whether A's and B's ranges are disjoint, in words."""
    gap = pair["gap_decades"]
    if pair["disjoint"]:
        return f"disjoint, {number(gap)} decades apart"
    return f"not disjoint: they share {number(-gap)} decades"


def caption(data: StudyData, case: Case) -> str:
    pair = data.pairs["-".join(case)]
    ranges = "; ".join(
        f"{letter} (weights seed {pair[letter]['weights_seed']}): {number(pair[letter]['min_lr'])} "
        f"to {number(pair[letter]['max_lr'])}"
        for letter in "AB"
    )
    no_range = f" {pair['abstained']} more runs have no range." if pair["abstained"] else ""
    return (
        f"The two of n = {pair['n']} runs whose suggested ranges lie furthest apart. {ranges}: "
        f"{verdict(pair)}. Of all {pair['pairs']} pairs of runs, {pair['disjoint_pairs']} are "
        f"disjoint.{no_range} Thick: smoothed training loss; thin: raw, as the finder records it. "
        "Loss axis cut."
    )


def draw(data: StudyData, case: Case) -> Figure | None:
    traces = _runs(data, case)
    if len(traces) < 2:
        return None
    pair = data.pairs["-".join(case)]
    figure, grid = style.axes(2, 1, (6.4, 4.4), sharex=True, height_ratios=[3.4, 1])
    upper, lower = grid[:, 0]
    top = style.loss_axis(upper, [trace.loss[0] for trace in traces.values()])
    for position, (letter, trace) in enumerate(reversed(traces.items())):
        shade, run = style.WEIGHTS_COLOURS[letter], pair[letter]
        words = f"{letter}: weights seed {trace.weights_seed}, order seed {trace.order_seed}"
        upper.plot(
            trace.lr,
            style.below(trace.loss, top),
            color=shade,
            alpha=0.4,
            linewidth=0.8,
        )
        upper.plot(
            trace.lr,
            style.below(trace.smoothed, top),
            color=shade,
            gid=style.tip(words),
            label=f"{letter} (weights seed {trace.weights_seed})",
        )
        span = f"{number(run['min_lr'])} to {number(run['max_lr'])}"
        lower.plot(
            [run["min_lr"], run["max_lr"]],
            [position] * 2,
            color=shade,
            linewidth=9,
            solid_capstyle="butt",
            gid=style.tip(f"{words}: {span}"),
        )
        lower.annotate(
            span,
            (run["max_lr"], position),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    upper.set_ylabel("training loss (nats)")
    handles, labels = upper.get_legend_handles_labels()
    upper.legend(handles[::-1], labels[::-1], loc="lower left")
    lower.set(yticks=[0, 1], yticklabels=["B's range", "A's range"], ylim=(-0.7, 1.7))
    lower.grid(False, axis="y")
    style.log_axis(lower)
    lower.set_xlim(traces["A"].lr[0], traces["A"].lr[-1])
    return figure
