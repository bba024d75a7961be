"""The post's published medians and bars beside ours."""

import numpy as np

from lrrt.analysis.published import published
from lrrt.report import StudyData, log_quantiles, number, style

ORDER = 40
TITLE = "Published suggestions beside ours"
NEEDS = "a weights or an order sweep of a protocol the post ran"
SWEEPS = {"weights": "new weights", "order": "same weights"}


def comparison(data: StudyData) -> list[dict]:
    """One entry per home case, sweep and quantity: published and ours, as (q10, median, q90)."""
    reference, entries = published(), []
    quantiles = data.config.report.loss_quantiles
    for backend, protocol in sorted({c for s in SWEEPS for c in data.cases(s)}):
        for sweep in SWEEPS:
            ours = data.suggested(sweep, backend, protocol)
            theirs = reference[
                (reference["backend"] == backend) & (reference["protocol"] == protocol)
                & (reference["sweep"] == sweep)
            ]
            if not len(ours):
                continue
            for row in theirs.itertuples():
                entries.append({
                    "backend": backend, "protocol": protocol, "sweep": sweep,
                    "quantity": row.quantity, "n": int(ours[row.quantity].notna().sum()),
                    "published": (row.q10, row.median, row.q90),
                    "ours": tuple(
                        log_quantiles(ours[row.quantity], [quantiles[0], 0.5, quantiles[1]])
                    ),
                })
    return entries


def caption(data: StudyData) -> str:
    parts = [
        f"{e['backend']} {SWEEPS[e['sweep']]} {e['quantity'].replace('_lr', ' LR')}: "
        f"{number(e['published'][1])} published, {number(e['ours'][1])} here (n = {e['n']})"
        for e in comparison(data)
    ]
    scale = f"{data.config.model.name}-{data.config.model.depth} on {data.config.data.name}"
    return (
        "Medians (dots) and 10–90 % quantiles across runs (bars), LR on a log axis. Grey: "
        "published, n = 20, ResNet-56 on CIFAR-10, batch 512; a bar not published is left out. "
        f"Colour: this study, {scale}. {'; '.join(parts)}."
    )


def draw(data: StudyData):
    entries = comparison(data)
    if not entries:
        return None
    figure, grid = style.axes(1, 1, (7.6, 0.9 + 0.52 * len(entries)))
    ax = grid[0, 0]
    for position, entry in enumerate(entries):
        shade = style.colour(entry["backend"], entry["protocol"])
        for offset, who, tint in ((-0.16, "published", style.MUTED), (0.16, "ours", shade)):
            low, median, high = entry[who]
            if np.isfinite([low, high]).all():
                ax.plot([low, high], [position + offset] * 2, color=tint, linewidth=5, alpha=0.4)
            ax.plot([median], [position + offset], "o", color=tint, markersize=7)
    ax.plot([], [], "o", color=style.MUTED, label="published (n = 20)")
    for case in dict.fromkeys((e["backend"], e["protocol"]) for e in entries):
        ax.plot([], [], "o", color=style.colour(*case), label=f"here: {style.NAMES.get(case[0])}")
    labels = [
        f"{style.NAMES.get(e['backend'], e['backend'])}, {SWEEPS[e['sweep']]}: "
        f"{e['quantity'].replace('_lr', ' LR')} (n = {e['n']})" for e in entries
    ]
    ax.set(yticks=range(len(entries)), yticklabels=labels, ylim=(len(entries) - 0.4, -0.6))
    style.lr_axis(ax)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return figure
