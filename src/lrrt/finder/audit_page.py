"""An audit as one self-contained HTML page: no request leaves it, every name is escaped."""

import math
from typing import Any

import numpy as np
from markupsafe import Markup

from lrrt.finder.verdict import FACTORS, VARIED, Summary
from lrrt.report import style, wording
from lrrt.report.html import environment, hover_script, inline

DPI = 110


def page(audit: Any) -> str:
    """The page's HTML, of an :class:`lrrt.Audit`; equal audits give equal pages."""
    script, digest = hover_script()
    rules = audit.by_rule()
    with style.applied(), np.errstate(all="ignore"):
        figures = [
            {
                "title": "All range tests",
                "text": "One line a run: its smoothed loss (EMA 0.98) as the learning rate rises; "
                f"the ticks below are what {audit.rule} suggests in each, the dashed line their "
                "median.",
                "svg": _svg(curves_figure(audit), "curves"),
            },
            {
                "title": "What each rule suggests",
                "text": "One dot a run, at the rate to train at. A narrow row repeats well; that "
                "alone does not make its rule right.",
                "svg": _svg(rules_figure(audit, rules), "rules"),
            },
        ]
        if audit.trials:
            figures.append(
                {
                    "title": "Short trainings around the suggestion",
                    "text": f"One line a run: the loss after {audit.about['train_steps']} steps at "
                    "a constant rate. A loss that was not finite is at the top.",
                    "svg": _svg(trials_figure(audit), "trials"),
                }
            )
    seeds = zip(audit.weights_seeds, audit.order_seeds, strict=True)
    return (
        environment("lrrt.finder")
        .get_template("audit.html.j2")
        .render(
            audit=audit,
            summary=audit.summary,
            vary="meant to have " * bool(audit.unvaried) + VARIED[audit.vary],
            figures=figures,
            rules=rules,
            runs=list(zip(seeds, audit.suggestions, audit.curves, strict=True)),
            notes=sorted({note for curve in audit.curves for note in curve.notes}),
            script=Markup(script),
            script_digest=digest,
        )
    )


def _svg(figure, name: str) -> Markup:
    return inline(style.encode(figure, DPI)["svg"], name)


def _tips(audit: Any) -> list[str]:
    return [
        f"weights seed {weights}, order seed {order}"
        for weights, order in zip(audit.weights_seeds, audit.order_seeds, strict=True)
    ]


def curves_figure(audit: Any):
    """Smoothed losses of all runs, suggestions as ticks below."""
    figure, axes = style.axes(size=(7.2, 4.0))
    ax = axes[0, 0]
    smoothed = [curve.smoothed() for curve in audit.curves]
    finite = np.concatenate([values[np.isfinite(values)] for values in smoothed])
    starts = [values[0] for values in smoothed if math.isfinite(values[0])]
    if len(finite):
        low, start = float(finite.min()), float(np.median(starts))
        room = max(start - low, 1e-3 * abs(start), 1e-12)
        bottom, top = low - 0.15 * room, start + 0.6 * room
        ax.set_ylim(bottom, top)
        for curve, values, text in zip(audit.curves, smoothed, _tips(audit), strict=True):
            drawn = np.clip(np.where(np.isfinite(values), values, np.inf), bottom, top + room)
            end = f"; {curve.stopped}" if curve.stopped else ""
            ax.plot(
                curve.lr,
                drawn,
                color=style.TRAIN_COLOUR,
                linewidth=1.2,
                alpha=0.7,
                gid=style.tip(text + end),
            )
        for suggestion, text in zip(audit.suggestions, _tips(audit), strict=True):
            if suggestion.lr is not None:
                ax.plot(
                    [suggestion.lr] * 2,
                    [bottom, bottom + 0.08 * room],
                    color=style.INK,
                    linewidth=1.6,
                    gid=style.tip(f"{text}: {suggestion.lr:.2g}"),
                )
    if audit.lr is not None:
        # Below the ticks: what lies above them would take the pointer.
        ax.axvline(audit.lr, color=style.INK, linestyle="--", linewidth=1, zorder=0.9)
    style.log_axis(ax)
    ax.set_ylabel("smoothed loss")
    return figure


def rules_figure(audit: Any, rules: list[Summary]):
    """A row for each rule, a dot for each run."""
    figure, axes = style.axes(size=(7.2, 0.8 + 0.3 * len(rules)))
    ax = axes[0, 0]
    for row, summary in enumerate(rules):
        chosen = summary.rule == audit.rule
        suggestions = [curve.suggest(summary.rule, offset=audit.offset) for curve in audit.curves]
        told = [(s.lr, text) for s, text in zip(suggestions, _tips(audit), strict=True) if s.lr]
        rows = row + style.jitter(len(told), 0.2)
        style.dots(
            ax,
            [lr for lr, _ in told],
            rows,
            [f"{t}: {lr:.2g}" for lr, t in told],
            color=style.TRAIN_COLOUR if chosen else style.MUTED,
            alpha=0.8,
        )
        if summary.median is not None:
            ax.plot(
                [summary.median] * 2,
                [row - 0.35, row + 0.35],
                color=style.INK,
                linewidth=1.6,
                zorder=0.9,
            )
    labels = [f"{s.rule} ({len(s.values)} of {s.runs})" for s in rules]
    ax.set_yticks(range(len(rules)), labels)
    ax.set_ylim(len(rules) - 0.4, -0.6)
    style.log_axis(ax)
    return figure


def trials_figure(audit: Any):
    """Final losses of the short trainings, a line for each run."""
    figure, axes = style.axes(size=(7.2, 3.4))
    ax = axes[0, 0]
    losses = np.array([trial.loss for trial in audit.trials]).reshape(-1, len(FACTORS))
    finite = losses[np.isfinite(losses)]
    top = float(finite.max() + 0.1 * (np.ptp(finite) or abs(finite.max()))) if len(finite) else 1.0
    lrs = [trial.lr for trial in audit.trials[: len(FACTORS)]]
    for values, text in zip(losses, _tips(audit)[: len(losses)], strict=True):
        told = ", ".join(wording.number(value) for value in values)
        ax.plot(
            lrs,
            np.where(np.isfinite(values), values, top),
            marker="o",
            markersize=5,
            color=style.TRAIN_COLOUR,
            linewidth=1,
            alpha=0.7,
            gid=style.tip(f"{text}: {told}"),
        )
    style.log_axis(ax)
    ax.set_ylabel("loss afterwards")
    return figure
