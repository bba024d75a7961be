"""Curvature, step size and the loss along a ramp, with and without clipping."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrrt.experiments.stability.design import MEASURED_LRS
from lrrt.report import style, wording
from lrrt.report.study import StudyData
from lrrt.report.wording import number

ORDER = 69
SECTION = "Initial weights and batch order"
TITLE = "Where the loss turns, and where steps exceed the stability bound"
NEEDS = "ramps whose curvature was measured, on torch (mechanism.runs)"
RUNS_OF = "mechanism"


def _arm(clipped: bool) -> str:
    return "with clipping" if clipped else "without clipping"


def findings(data: StudyData) -> list[str]:
    """Where the loss turns and where the step outgrows the stability bound, by arm."""
    sentences = []
    found = data.turns
    for (protocol, clipped), runs in found.groupby(["protocol", "clipped"], sort=False):
        n = len(runs)
        text = f"{wording.name(protocol)} {_arm(clipped)} (n = {n}): "
        if clipped:
            text += f"clipping takes {runs['clipped_share'].mean():.0%} off the first step; "
        start, at_turn, turned = map(_mean, (runs["eigenvalue"], runs["at_turn"], runs["turn"]))
        text += (
            f"the loss is lowest at an LR of {number(turned)}; the largest eigenvalue is "
            f"{number(start)} at first and {number(at_turn)} there"
        )
        crossed = runs.dropna(subset=["crossing", "turn"])
        if len(crossed):
            crossing = _mean(crossed["crossing"])
            gap = np.log10(crossed["turn"] / crossed["crossing"]).mean()
            text += (
                f"; steps first exceed the stability bound with momentum at {number(crossing)} "
                f"({len(crossed)} of {n} runs), and the loss turns {abs(gap):.2f} decades "
                f"{'later' if gap >= 0 else 'earlier'}"
            )
        else:
            text += "; no measured step exceeds the stability bound with momentum"
        sentences.append(text[0].upper() + text[1:] + ".")
    return sentences


def headline(data: StudyData) -> str:
    """How far the turn of the loss is from where steps pass the stability bound, by each protocol
    as it is."""
    parts = []
    for (protocol, clipped), runs in data.turns.groupby(["protocol", "clipped"], sort=False):
        gaps = np.log10(runs["turn"] / runs["crossing"]).dropna()
        if len(gaps) and clipped == (data.config.protocols[protocol].gradient_clip is not None):
            parts.append(
                f"{gaps.min():+.2f} to {gaps.max():+.2f} decades by {wording.name(protocol)} "
                f"({len(gaps)} of {len(runs)} ramps)"
            )
    if not parts:
        return ""
    return (
        f"From the LR at which steps first exceed the stability bound 2 (1 + m) / λ of the "
        f"Hessian's largest eigenvalue, the loss turns ({data.scale_of(data.config.mechanism)}) "
        f"{' and '.join(parts)} (less than 0: before)."
    )


def _mean(values: pd.Series) -> float:
    """The geometric mean of the positive ones."""
    return float(10 ** np.log10(values[values > 0]).mean())


def _span(counts: pd.Series, noun: str) -> str:
    low, high = counts.min(), counts.max()
    number = str(high) if low == high else f"{low} to {high}"
    return f"{number} {noun}" if high == 1 else f"{number} {noun}s"


def caption(data: StudyData) -> str:
    points = data.mechanism.groupby("run")["eigenvalue"].count()
    n = data.mechanism.groupby(["protocol", "clipped"])["run"].nunique()
    seeds, steps = _span(n, "seed"), _span(points, "step")
    scale = data.scale_of(data.config.mechanism)
    return (
        f"Ramps on {wording.name('torch')} ({scale}), n = {seeds} each, as the protocol is and "
        f"with gradient clipping exchanged. Top: the loss of each batch; dotted: the LR at the "
        f"lowest point of a spline through them. Middle: the acting LR (times what clipping leaves "
        f"of the gradient), and the largest LR at which a quadratic of the measured curvature is "
        f"stable, 2 / λ and, with momentum m, 2 (1 + m) / λ; λ: largest Hessian eigenvalue on the "
        f"batch (Lanczos), at {steps} of a run. Bottom: gradient "
        f"norm before clipping, and norm of the update over that of the weights. A loss that is "
        f"not finite ends the measurements. {' '.join(findings(data))}"
    )


def draw(data: StudyData) -> Figure | None:
    table = data.mechanism[data.mechanism["lr"] >= MEASURED_LRS[0]]
    if not np.isfinite(table["eigenvalue"].astype(float)).any():
        return None
    arms = list(dict.fromkeys(zip(table["protocol"], table["clipped"], strict=True)))
    figure, grid = style.axes(
        3, len(arms), (max(6.4, 3.1 * len(arms)), 7.4), sharex=True, sharey="row"
    )
    found = data.turns.set_index("run")
    starts = table.groupby("run")["loss"].first()
    for column, (protocol, clipped) in enumerate(arms):
        top, middle, bottom = grid[:, column]
        mine = table[(table["protocol"] == protocol) & (table["clipped"] == clipped)]
        shade = style.colour("torch", protocol)
        for i, (run, rows) in enumerate(mine.groupby("run", sort=False)):
            rows = rows.sort_values("step")
            words = f"weights seed {rows['weights_seed'].iloc[0]}"
            _loss(top, rows, found.loc[run, "turn"], shade, starts, words)
            _steps(middle, rows, shade, words, label=i == 0)
            _norms(bottom, rows, shade, words, label=i == 0)
        name = wording.name(protocol)
        top.set_title(f"{name}\n{_arm(clipped)}")
        for ax in (top, middle):
            style.log_axis(ax, text="")
        style.log_axis(bottom)
        for ax in (middle, bottom):
            style.log_axis(ax, "y", "")
        middle.set_ylim(table["effective_lr"].min() / 2, 10 * table["effective_lr"].max())
    for ax, text in zip(grid[:, 0], ("loss (nats)", "LR", "norm, ratio"), strict=True):
        ax.set_ylabel(text)
    for ax in grid[1:, 0]:
        ax.legend(fontsize=7)
    return figure


def _loss(ax, rows: pd.DataFrame, turn: float, shade: str, starts, words: str) -> None:
    top = style.loss_axis(ax, starts)
    ax.plot(
        rows["lr"],
        style.below(rows["loss"].to_numpy(), top),
        color=shade,
        linewidth=1,
        gid=style.tip(f"{words}, lowest at an LR of {number(turn)}"),
    )
    ax.axvline(turn, color=style.INK, linewidth=0.8, linestyle=":")


def _steps(ax, rows: pd.DataFrame, shade: str, words: str, label: bool) -> None:
    ax.plot(
        rows["lr"],
        rows["effective_lr"],
        color=shade,
        linewidth=1.2,
        label="acting LR" if label else None,
    )
    measured = rows[rows["bound"].notna()]
    looks = (("momentum_bound", "2 (1 + m) / λ", "o", style.INK), ("bound", "2 / λ", "v", "white"))
    for name, text, marker, fill in looks:
        ax.plot(
            measured["lr"],
            measured[name],
            linestyle="-",
            linewidth=0.6,
            marker=marker,
            markersize=4,
            color=style.INK,
            markerfacecolor=fill,
            label=text if label else None,
            gid=style.tip(f"{text}, {words}"),
        )


def _norms(ax, rows: pd.DataFrame, shade: str, words: str, label: bool) -> None:
    ax.plot(
        rows["lr"],
        _positive(rows["grad_norm"]),
        color=shade,
        linewidth=1.2,
        label="gradient norm" if label else None,
        gid=style.tip(words),
    )
    measured = rows[rows["update_ratio"].notna()]
    ax.plot(
        measured["lr"],
        _positive(measured["update_ratio"]),
        "D-",
        color=style.INK,
        markersize=3.5,
        linewidth=0.6,
        label="update / weights" if label else None,
        gid=style.tip(f"update over weights, {words}"),
    )


def _positive(values: pd.Series) -> pd.Series:
    return values.where(np.isfinite(values) & (values > 0))
