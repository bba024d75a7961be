"""Runs A and B of a case: two initialisations, two curves, two suggested ranges."""

from matplotlib.figure import Figure

from lrrt.claims.study import Case, Trace
from lrrt.report import style, wording
from lrrt.report.figures import APPENDIX
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 260
SECTION = APPENDIX
SWEEP = "weights"
DASHES = {"A": "-", "B": "--"}


def choice(data: StudyData) -> Case | None:
    """The home case whose two ranges lie furthest apart."""
    complete = {
        case: pair["gap_decades"]
        for case in data.home_cases(SWEEP)
        if (pair := data.pairs.get("-".join(case))) and pair["gap_decades"] is not None
    }
    return max(complete, key=complete.get, default=None)


def _runs(data: StudyData, case: Case) -> dict[str, Trace]:
    pair = data.pairs["-".join(case)]
    traces = {trace.run: trace for trace in data.traces(SWEEP, case)}
    return {letter: traces[pair[letter]["run"]] for letter in "AB" if pair[letter]["run"] in traces}


def title(data: StudyData) -> str:
    pair = data.pairs["-".join(choice(data))]
    apart = (
        f"{wording.times(10 ** pair['gap_decades'])} apart" if pair["disjoint"] else "overlapping"
    )
    return (
        f"The two most different of {pair['n']} runs suggest ranges that are {apart}; "
        f"{pair['disjoint_pairs']} of {pair['pairs']} pairs of ranges do not overlap"
    )


def caption(data: StudyData) -> str:
    case = choice(data)
    pair = data.pairs["-".join(case)]
    rows = data.own_suggestions(SWEEP, case).set_index("run")["fallback"].astype(bool)
    fell = [letter for letter in "AB" if rows.get(pair[letter]["run"], False)]
    fallback = (
        f" The minimum of {wording.listed(fell)} is the rule's fallback, a tenth of the maximum."
        if fell
        else ""
    )
    return (
        f"{wording.case(*case)}: run A has the higher range, run B the lower. Thick: smoothed "
        f"training loss; thin: raw; bars: the suggested ranges; loss axis cut.{fallback}"
    )


def draw(data: StudyData) -> Figure | None:
    case = choice(data)
    traces = {} if case is None else _runs(data, case)
    if len(traces) < 2:
        return None
    pair, shade = data.pairs["-".join(case)], style.colour(*case)
    figure, grid = style.axes(2, 1, (style.WIDTH, 3.8), sharex=True, height_ratios=[3.4, 1])
    upper, lower = grid[:, 0]
    top = style.loss_axis(upper, [trace.loss[0] for trace in traces.values()])
    for place, (letter, trace) in enumerate(reversed(traces.items())):
        words = f"{letter}: weights seed {trace.weights_seed}, order seed {trace.order_seed}"
        looks = {"color": shade if letter == "A" else style.INK, "linestyle": DASHES[letter]}
        upper.plot(trace.lr, style.below(trace.loss, top), alpha=0.35, linewidth=0.8, **looks)
        upper.plot(
            trace.lr,
            style.below(trace.smoothed, top),
            gid=style.tip(words),
            label=f"run {letter}",
            **looks,
        )
        low, high = pair[letter]["min_lr"], pair[letter]["max_lr"]
        span = f"{number(low)} to {number(high)}"
        lower.plot(
            [low, high],
            [place] * 2,
            color=looks["color"],
            linewidth=8,
            solid_capstyle="butt",
            gid=style.tip(f"{words}: {span}"),
        )
        lower.annotate(
            span, (low, place), (-6, 0), textcoords="offset points", va="center", ha="right"
        )
    upper.set_ylabel("training loss (nats)")
    upper.legend(loc="lower left")
    lower.set(yticks=[0, 1], yticklabels=["B's range", "A's range"], ylim=(-0.7, 1.7))
    lower.grid(False, axis="y")
    style.log_axis(lower)
    lower.set_xlim(traces["A"].lr[0], traces["A"].lr[-1])
    return figure
