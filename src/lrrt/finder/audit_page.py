"""An audit as one self-contained HTML page: no request leaves it, every name is escaped."""

import math
from typing import Any

import numpy as np
from markupsafe import Markup

from lrrt.finder.verdict import (
    LR_FACTORS,
    SCHEDULES,
    VARIED,
    Summary,
    clearly_better,
    losses_by_factor,
)
from lrrt.report import style
from lrrt.report.html import dark_colours, environment, hover_script, inline
from lrrt.report.wording import number

DPI = 110


def page(audit: Any) -> str:
    """The page's HTML, of an :class:`lrrt.Audit`; equal audits give equal pages."""
    script, digest = hover_script()
    rules = audit.by_rule()
    with style.project_style(), np.errstate(all="ignore"):
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
                "svg": _svg(rules_figure(audit, [r for r in rules if r.values]), "rules"),
            },
        ]
        for schedule in {trial.schedule: None for trial in audit.trials}:
            figures.insert(
                len(figures) - 2,
                {
                    "title": f"Short trainings with {SCHEDULES[schedule]}",
                    "text": f"One line a run: the loss after {audit.about['train_steps']} steps at "
                    "a tenth of the suggestion, at the suggestion and at ten times it. A loss that "
                    "was not finite is at the top.",
                    "svg": _svg(trials_figure(audit, schedule), f"trials-{schedule}"),
                    "table": trials_table(audit, schedule),
                },
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
            rules=[row for row in rules if row.values],
            silent=[row for row in rules if not row.values],
            has_range=any(s.min_lr is not None and s.max_lr is not None for s in audit.suggestions),
            has_remarks=any(s.reason for s in audit.suggestions)
            or any(curve.stopped for curve in audit.curves),
            runs=list(zip(seeds, audit.suggestions, audit.curves, strict=True)),
            dark=Markup(dark_colours()),
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
    figure, axes = style.axes(size=(style.WIDTH, 3.4))
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
    figure, axes = style.axes(size=(style.WIDTH, 0.8 + 0.27 * len(rules)))
    ax = axes[0, 0]
    for row, summary in enumerate(rules):
        chosen = summary.rule == audit.rule
        suggestions = [curve.suggest(summary.rule, offset=audit.offset) for curve in audit.curves]
        drawn = [(s.lr, text) for s, text in zip(suggestions, _tips(audit), strict=True) if s.lr]
        rows = row + style.jitter(len(drawn), 0.2)
        style.dots(
            ax,
            [lr for lr, _ in drawn],
            rows,
            [f"{t}: {lr:.2g}" for lr, t in drawn],
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


def trials_figure(audit: Any, schedule: str):
    """Final losses of the short trainings over the factor, a line for each run."""
    figure, axes = style.axes(size=(style.WIDTH, 3.2))
    ax = axes[0, 0]
    trials = [trial for trial in audit.trials if trial.schedule == schedule]
    losses = np.array([trial.loss for trial in trials]).reshape(-1, len(LR_FACTORS))
    finite = losses[np.isfinite(losses)]
    top = float(finite.max() + 0.1 * (np.ptp(finite) or abs(finite.max()))) if len(finite) else 1.0
    tips, runs = _tips(audit), [trial.run for trial in trials[:: len(LR_FACTORS)]]
    for values, run in zip(losses, runs, strict=True):
        listed = ", ".join(number(value) for value in values)
        ax.plot(
            range(len(LR_FACTORS)),
            np.where(np.isfinite(values), values, top),
            marker="o",
            markersize=5,
            color=style.TRAIN_COLOUR,
            linewidth=1,
            alpha=0.7,
            gid=style.tip(f"{tips[run]}: {listed}"),
        )
    labels = [
        f"{trial.factor:g}\N{MULTIPLICATION SIGN}\n{number(trial.lr)}"
        for trial in trials[: len(LR_FACTORS)]
    ]
    ax.set_xticks(range(len(LR_FACTORS)), labels)
    ax.set_xlim(-0.3, len(LR_FACTORS) - 0.7)
    ax.set_xlabel("multiple of the suggestion, learning rate")
    ax.set_ylabel("loss afterwards")
    return figure


def trials_table(audit: Any, schedule: str) -> list[dict[str, Any]]:
    """A row for each factor: rate, median, lowest and highest loss, failures, runs clearly lower
    than at the suggestion."""
    losses = losses_by_factor(audit.trials, schedule)
    chosen = next(r.factor for r in audit.recommendations if r.schedule == schedule)
    rates = {t.factor: t.lr for t in audit.trials if t.schedule == schedule}
    rows = []
    for factor, values in losses.items():
        finite = values[np.isfinite(values)]
        rows.append(
            {
                "factor": f"{factor:g}",
                "lr": rates[factor],
                "median": float(np.median(values)),
                "low": float(finite.min()) if len(finite) else None,
                "high": float(finite.max()) if len(finite) else None,
                "failed": len(values) - len(finite),
                "lower": None if factor == 1 else int(clearly_better(losses, factor).sum()),
                "runs": len(values),
                "chosen": factor == chosen,
            }
        )
    return rows
