"""The report's tables: frames that name their source, as CSV and Parquet, and as rows to show."""

import io
from typing import NamedTuple

import numpy as np
import pandas as pd

from lrrt.analysis.suggestions import STEEPEST
from lrrt.experiments.sweep.dispersion import batch_size_slopes, range_summary
from lrrt.report import verdicts, wording
from lrrt.report.study import StudyData


class Table(NamedTuple):
    """``shown``: by heading, what the page shows of all that the files have: one column, or three
    as "a [b, c]", or two as "[b, c]"."""

    name: str
    title: str
    note: str
    frame: pd.DataFrame
    shown: dict[str, tuple[str, ...]]


def columns(*names: str) -> dict[str, tuple[str, ...]]:
    """Columns shown as they are, under their own names."""
    return {name.replace("_", " "): (name,) for name in names}


CASE = columns("backend", "protocol", "sweep")
RANGE = columns("n", "abstained", "fallbacks") | {
    "median [10, 90 %]": ("median", "q10", "q90"),
    "95 % interval of the median": ("median_low", "median_high"),
}
BARS = (
    "The 10 and 90 % quantiles describe the runs; the interval is a bootstrap, in log10, and needs "
    "six runs or more to be worth its name."
)


def pair_table(data: StudyData) -> pd.DataFrame:
    """One row per pair of runs A and B that the divergence stage chose."""
    rows = []
    for name, pair in data.pairs_by_name.items():
        row = {"pair": name, "gap_decades": pair["gap_decades"], "disjoint": pair["disjoint"]}
        for letter in "AB":
            for key in ("run", "weights_seed", "order_seed", "min_lr", "max_lr"):
                row[f"{letter}_{key}"] = pair[letter][key]
        rows.append(row)
    return pd.DataFrame(rows)


def tables(data: StudyData, claims: list[dict]) -> list[Table]:
    """All tables of the page, those without a row left out; the claims are shown apart."""
    summary = range_summary(data.suggestions, data.config.report.bootstrap_resamples)
    made = [
        *_ranges(data, summary),
        *_trainings(data),
        *_rules(summary),
        *_attribution(data),
        *_variance(data),
        *_instrument(data),
        Table("claims", "Claims", "", verdicts.table(claims), {}),
    ]
    return [table for table in made if len(table.frame)]


def _ranges(data: StudyData, summary: pd.DataFrame) -> list[Table]:
    """What each protocol's own rule suggests."""
    rules = {name: protocol.rule for name, protocol in data.config.protocols.items()}
    own = summary[summary["rule"] == summary["protocol"].map(rules)]
    return [
        Table(
            "published",
            "Published values beside ours",
            "Inside: our median lies in the published 10 to 90 % bar (a dash: no bar published).",
            data.published,
            columns("backend", "sweep", "quantity")
            | {
                "published, n = 20": ("published_median", "published_q10", "published_q90"),
                "here": ("median", "q10", "q90"),
                "n here": ("n",),
                "95 % interval of our median": ("median_low", "median_high"),
                "inside": ("inside",),
            },
        ),
        Table(
            "ranges",
            "Suggested ranges by sweep, each protocol's own rule",
            BARS,
            own,
            CASE | columns("batch_size", "quantity") | RANGE,
        ),
        Table(
            "slopes",
            "Growth of the suggested LR with the batch size",
            "Least squares of log10 LR on log10 batch size, 95 % interval (Student's t). 1 is "
            "linear scaling, 0.5 square-root scaling.",
            batch_size_slopes(data.own),
            CASE
            | columns("quantity", "n", "batch_sizes")
            | {
                "slope": ("slope", "low", "high"),
                "holds 1": ("linear",),
                "holds 0.5": ("square_root",),
            },
        ),
    ]


def _trainings(data: StudyData) -> list[Table]:
    """What was trained at suggestions."""
    return [
        Table(
            "pairs",
            "Runs A and B",
            "Gap: decades between the two ranges; negative, an overlap.",
            pair_table(data),
            {
                "pair": ("pair",),
                "A: weights seed": ("A_weights_seed",),
                "A's range": ("A_min_lr", "A_max_lr"),
                "B: weights seed": ("B_weights_seed",),
                "B's range": ("B_min_lr", "B_max_lr"),
                "gap": ("gap_decades",),
                "disjoint": ("disjoint",),
            },
        ),
        Table(
            "outcomes",
            "Outcomes of the trainings",
            "One row a training; definitions above.",
            data.outcomes,
            columns(
                "pair",
                "weights",
                "weights_from",
                "lr_of",
                "lr_kind",
                "policy",
                "lr",
                "epochs",
                "outcome",
            )
            | {
                "last accuracy": ("final_val_accuracy",),
                "best": ("best_val_accuracy",),
                "reason": ("reason",),
            },
        ),
    ]


def _rules(summary: pd.DataFrame) -> list[Table]:
    """What every rule suggests."""
    return [
        Table(
            "rules",
            "All rules on the weights sweep",
            BARS,
            summary[summary["sweep"] == "weights"],
            columns("backend", "protocol", "rule", "quantity") | RANGE,
        ),
    ]


def _attribution(data: StudyData) -> list[Table]:
    """What makes two protocols' suggestions differ."""
    return [
        Table(
            "attribution",
            "Factors between the two protocols, in decades of the suggested LR",
            "The origin's protocol with one factor of the target's: alone, or added to those "
            "before it in a sequence (averaged: the mean over sequences); at a small scale "
            "(screen) or at the study's own. "
            "Effect: mean log10 difference of n runs paired by seed, with Student's t interval "
            "(95 %). Before and after: geometric means. Abstained: pairs in which a rule suggests "
            "nothing. Exploratory: of so many intervals one in twenty excludes 0 by chance.",
            data.attribution,
            columns(
                "scale",
                "design",
                "order",
                "step",
                "factor",
                "origin",
                "target",
                "quantity",
                "n",
                "before",
                "after",
            )
            | {"effect, decades": ("effect", "low", "high")}
            | columns("abstained", "fallbacks"),
        ),
        Table(
            "attribution_rule",
            "Where a rule fell back to a tenth of its max LR",
            f"Medians of min LR. Share with its 95 % exact interval. Steepest: {STEEPEST}'s rule, "
            "the steepest descent of the whole curve, on the runs that fell back; otherwise: the "
            "protocol's own rule on the runs in which it found a descent.",
            data.fallbacks,
            CASE
            | columns("n", "fallbacks")
            | {"share": ("share", "low", "high")}
            | {
                "min LR where it fell back": ("fell_back",),
                "steepest": ("steepest",),
                "otherwise": ("found",),
            },
        ),
        Table(
            "attribution_framework",
            "Framework or protocol, in decades of the suggested LR",
            "Effects on log10 LR from origin to target, of runs with the same weights and batches, "
            "own rule, weights sweep; at one protocol or backend, or averaged over both. "
            "Interaction: by how much the protocol's effect differs between the backends.",
            data.framework,
            columns("effect_of", "at", "origin", "target", "quantity", "n", "before", "after")
            | {"effect, decades": ("effect", "low", "high")}
            | columns("abstained"),
        ),
        Table(
            "attribution_waterfall",
            "From one published LR to the other, factor by factor",
            "Steps whose ends meet. Shares of the way between our two ends, and between the "
            "published ones. A factor's effect is its mean over sequences (averaged), or alone.",
            data.waterfall,
            columns("scale", "quantity", "kind", "name", "n", "before", "after")
            | {
                "decades": ("effect", "low", "high"),
                "share": ("share",),
                "of the published gap": ("share_published",),
            },
        ),
    ]


def _variance(data: StudyData) -> list[Table]:
    """What makes two runs' suggestions differ."""
    return [
        Table(
            "variance",
            "Components of the variance of log10 LR",
            "Crossed design, in decades squared, by expected mean squares; a negative estimate "
            "counts as 0 in the shares. The highest interaction is also all that is left over. "
            "Intervals (95 %): generalised, for normal effects. Dropped: runs left out so that "
            "no combination lacks a suggestion. Early: of min LR in the ramp's first decade.",
            data.variance,
            columns("backend", "protocol", "depth", "quantity", "component", "freedom")
            | {
                "variance": ("variance", "variance_low", "variance_high"),
                "share": ("share", "low", "high"),
            }
            | columns("n", "dropped", "abstained", "fallbacks", "early", "reversed", "reason"),
        ),
        Table(
            "variance_spread",
            "What is left of the spread with factors fixed",
            "Standard deviation of log10 LR, in decades, with nothing and with the named factors "
            "fixed; their ratio, the least and most of it with any one seed left out, and that of "
            "min LR in what is a complete design without odd ones (early, or above max LR); and "
            "its ratio to what is left with the weights fixed.",
            data.variance_spread,
            columns("backend", "protocol", "depth", "quantity", "fixed", "all", "left")
            | {"ratio": ("ratio", "low", "high")}
            | columns("least", "most")
            | {
                "without odd runs": ("sound", "sound_low", "sound_high"),
                "n then": ("sound_n",),
                "to weights fixed": ("to_weights", "to_weights_low", "to_weights_high"),
            }
            | columns("n", "reason"),
        ),
        Table(
            "rounding",
            "The same weights and batches with other rounding, in decades",
            "Runs of a sweep against the same runs of the sweep rounding or rounding_order. "
            "Effect: mean log10 difference of n pairs, with Student's t interval (95 %). Standard "
            "deviations that rounding and seeds make; share: of rounding in both variances, with "
            "an exact F interval.",
            data.rounding,
            columns("sweep", "backend", "protocol", "batch_size", "quantity", "n")
            | {"effect": ("effect", "low", "high")}
            | columns("rounding", "seeds")
            | {"share": ("share", "share_low", "share_high")},
        ),
    ]


def _instrument(data: StudyData) -> list[Table]:
    """What smoothing, ramp and clipping do to the curve."""
    return [
        Table(
            "instrument",
            "The same curves and networks with other smoothing, trim, stop and ramp, in decades",
            "Beta, trim, stop factor and smoothing: replayed on the curves of the weights sweep. "
            "Steps, range and shape of the ramp: runs of their own. Restarts: trainings at a "
            "constant LR, against the ramp at that LR; no rule reads them. Effect: mean log10 "
            "difference of n runs paired by seed, with Student's t interval (95 %). Default: "
            "geometric mean.",
            data.instrument,
            columns(
                "protocol",
                "backend",
                "rule",
                "setting",
                "value",
                "quantity",
                "n",
                "abstained",
                "default",
            )
            | {"effect, decades": ("effect", "low", "high")},
        ),
        Table(
            "smoothing_shift",
            "How far too high the usual smoothing puts the lowest loss, in decades",
            "Runs of the weights sweep, by the blog_fastai rule with its EMA, against a two-sided "
            "average of the curve cut before the explosion. Truncation: the same EMA, of the cut "
            "curve; lag: the rest. Student's t interval over runs (95 %). Against the mean curve: "
            "bootstrap over runs, since all share that mean.",
            data.smoothing_shift,
            columns("protocol", "backend", "part", "n") | {"decades": ("effect", "low", "high")},
        ),
        Table(
            "mechanism",
            "Where the loss turns, and where steps outgrow the bound",
            "One row a run, on torch. Turn: the LR at the lowest point of a spline through the "
            "loss. Crossing: the LR at which the LR that acts first exceeds 2 (1 + momentum) / "
            "eigenvalue, interpolated between measured steps. Eigenvalue: the Hessian's largest, "
            "at the first measured step and at the one nearest to the turn.",
            data.turns,
            columns(
                "protocol",
                "clipped",
                "weights_seed",
                "turn",
                "crossing",
                "clipped_share",
                "eigenvalue",
                "at_turn",
            ),
        ),
    ]


def source(data: StudyData) -> dict:
    """What a table or figure of this report comes from: study, runs, data, versions, files."""
    return {
        "study": data.config.study.name,
        "runs": sorted(set(data.curves["run"])),
        "trainings": sorted(set(data.trainings["run"])),
        "data_digests": data.data_digests,
        "versions": data.versions,
        "files": data.files,
    }


def encode(table: Table, attrs: dict) -> dict[str, bytes]:
    """The table as ``csv`` and, carrying ``attrs``, as ``parquet``."""
    frame = table.frame.reset_index(drop=True)
    text = frame.to_csv(index=False).encode()
    buffer = io.BytesIO()
    frame.attrs = attrs  # last: pandas copies them at every step
    frame.to_parquet(buffer, index=False)
    return {"csv": text, "parquet": buffer.getvalue()}


def cells(table: Table) -> list[list[str]]:
    """What is shown, as words, row by row."""
    return [
        [_join([cell(row[name]) for name in names]) for names in table.shown.values()]
        for row in table.frame.to_dict("records")
    ]


def _join(words: list[str]) -> str:
    if len(words) == 1:
        return words[0]
    middle, ends = ("", words) if len(words) == 2 else (words[0] + " ", words[1:])
    return middle.strip() or "–" if set(ends) == {"–"} else f"{middle}[{', '.join(ends)}]"


def cell(value: object) -> str:
    """One value as a person reads it; a dash where there is none."""
    if value is None or value is pd.NA or value is pd.NaT:
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return wording.number(float(value), 3)
    return str(value)
