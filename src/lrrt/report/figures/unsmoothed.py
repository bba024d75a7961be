"""Training and validation loss at every step, not smoothed, beside the smoothed curve."""

from matplotlib.figure import Figure

from lrrt.analysis.evidence import Case, Trace
from lrrt.report import style, wording
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 100
SECTION = "Losses without smoothing"
TITLE = "Training and validation loss without smoothing"
NEEDS = "a validation or validation_batch sweep"
SWEEPS = {  # sweep: what batch norm normalised with, colour of the validation loss
    "validation": ("running statistics", style.VALIDATION_COLOUR),
    "validation_batch": ("batch statistics", style.BATCH_VALIDATION_COLOUR),
}


def cases(data: StudyData) -> list[Case]:
    return list(dict.fromkeys(case for sweep in SWEEPS for case in data.cases(sweep)))


def title(case: Case) -> str:
    return f"{TITLE}: {wording.case(*case)}"


def _runs(data: StudyData, case: Case) -> dict[str, list[Trace]]:
    """By sweep, the runs with a validation loss."""
    runs = {
        sweep: [t for t in data.traces(sweep, case) if t.val_loss is not None] for sweep in SWEEPS
    }
    return {sweep: traces for sweep, traces in runs.items() if traces}


def caption(data: StudyData, case: Case) -> str:
    runs = _runs(data, case)
    counts = " and ".join(
        f"n = {len(traces)} with batch norm's {SWEEPS[sweep][0]}" for sweep, traces in runs.items()
    )
    images = data.config.data.test_images
    warming = (
        " At the smallest LRs nothing is learnt yet: what the validation loss does there is batch "
        "norm's running statistics on their way from 0 and 1 to those of the data."
    ) * ("validation" in runs)
    return (
        f"Left: raw training loss of each batch, without penalty, and loss on all {images:,} test "
        f"images after each step ({counts}). Right: what the finder records of the same training, "
        "smoothed (EMA, 0.98). Dotted: the suggested max LR. Every run is drawn; loss axes "
        f"cut.{warming}"
    )


def draw(data: StudyData, case: Case) -> Figure | None:
    runs = _runs(data, case)
    if not runs:
        return None
    first_sweep, first = next(iter(runs.items()))
    figure, grid = style.axes(1, 2, (8.6, 3.6), sharex=True, sharey=True)
    left, right = grid[0]
    top = style.loss_axis(left, [trace.loss[0] for trace in first], 2.0)
    for i, trace in enumerate(first):
        words = f"weights seed {trace.weights_seed}, order seed {trace.order_seed}"
        for ax, lr, loss, alpha in (
            (left, trace.trained_lr, trace.raw_loss, 1.0),
            (right, trace.lr, trace.loss, 0.3),
        ):
            ax.plot(
                lr,
                style.below(loss, top),
                color=style.TRAIN_COLOUR,
                alpha=alpha,
                linewidth=1,
                gid=style.tip(f"training, raw: {words}"),
                label=None if i else "training, raw",
            )
        right.plot(
            trace.lr,
            style.below(trace.smoothed, top),
            color=style.TRAIN_COLOUR,
            linewidth=2.2,
            gid=style.tip(f"training, smoothed: {words}"),
            label=None if i else "training, smoothed",
        )
    for sweep, traces in runs.items():
        statistics, shade = SWEEPS[sweep]
        for i, trace in enumerate(traces):
            left.plot(
                trace.trained_lr,
                style.below(trace.val_loss, top),
                color=shade,
                linewidth=1.2,
                gid=style.tip(f"validation, {statistics}: weights seed {trace.weights_seed}"),
                label=None if i else f"validation, {statistics}",
            )
    for value in data.suggested(first_sweep, case)["max_lr"].dropna():
        for ax in (left, right):
            ax.axvline(
                value,
                color=style.INK,
                linestyle=":",
                linewidth=1.2,
                gid=style.tip(f"suggested max LR {number(value, 3)}"),
            )
    for ax, words in ((left, "not smoothed"), (right, "smoothed")):
        style.log_axis(ax)
        ax.set_title(words)
        ax.set_xlim(first[0].lr[0], first[0].lr[-1])
        ax.legend(loc="lower left")
    left.set_ylabel("loss (nats)")
    return figure
