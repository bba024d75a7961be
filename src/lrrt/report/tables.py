"""The report's tables: frames that name their source, as CSV and Parquet, and as rows to show."""

import io
from typing import NamedTuple

import numpy as np
import pandas as pd

from lrrt.analysis.dispersion import batch_size_slopes, range_summary
from lrrt.analysis.divergence import pairs_of
from lrrt.report import style
from lrrt.report.study import StudyData


class Table(NamedTuple):
    """``shown``: the columns that the page shows, of all that the files have."""

    name: str
    title: str
    note: str
    frame: pd.DataFrame
    shown: list[str]


RANGE = ["n", "abstained", "fallbacks", "q10", "median", "q90", "median_low", "median_high"]
CASE = ["backend", "protocol", "sweep", "batch_size"]
BARS = (
    "q10 and q90 describe the runs; median_low and median_high are a 95 % bootstrap interval of "
    "the median, in log10, which needs six runs or more to be worth its name."
)


def pair_table(data: StudyData) -> pd.DataFrame:
    """One row per pair of runs A and B that the divergence stage chose."""
    rows = []
    for case, found in data.pairs.items():
        for name, pair in pairs_of(case, found).items():
            row = {"pair": name, "gap_decades": pair["gap_decades"], "disjoint": pair["disjoint"]}
            for letter in "AB":
                for key in ("run", "weights_seed", "order_seed", "min_lr", "max_lr"):
                    row[f"{letter}_{key}"] = pair[letter][key]
            rows.append(row)
    return pd.DataFrame(rows)


def tables(data: StudyData, claims: list[dict]) -> list[Table]:
    """All tables of the page, those without a row left out; the claims are shown apart."""
    resamples = data.config.report.bootstrap_resamples
    summary = range_summary(data.suggestions, resamples)
    rules = {name: protocol.rule for name, protocol in data.config.protocols.items()}
    own = summary[summary["rule"] == summary["protocol"].map(rules)]
    every = summary[summary["sweep"] == "weights"]
    judged = pd.DataFrame(claims)
    if len(judged):
        ends = judged.pop("interval").map(lambda interval: interval or [np.nan, np.nan])
        judged["low"], judged["high"] = ends.str[0].astype(float), ends.str[1].astype(float)
    made = [
        Table(
            "published", "Published values beside ours",
            "inside: our median lies in the published 10 to 90 % bar (a dash: no bar published).",
            data.published,
            ["backend", "sweep", "quantity", "published_q10", "published_median", "published_q90",
             "n", "q10", "median", "q90", "median_low", "median_high", "inside"],
        ),
        Table(
            "ranges", "Suggested ranges by sweep, each protocol's own rule", BARS, own,
            [*CASE, "quantity", *RANGE],
        ),
        Table(
            "slopes", "Growth of the suggested LR with the batch size",
            "Least squares of log10 LR on log10 batch size; low and high: 95 % (Student's t). 1 is "
            "linear scaling, 0.5 square-root scaling.",
            batch_size_slopes(data.own),
            ["backend", "protocol", "sweep", "quantity", "n", "batch_sizes", "slope", "low", "high",
             "linear", "square_root"],
        ),
        Table(
            "pairs", "Runs A and B", "gap_decades: between the two ranges; negative, an overlap.",
            pair_table(data),
            ["pair", "A_weights_seed", "A_min_lr", "A_max_lr", "B_weights_seed", "B_min_lr",
             "B_max_lr", "gap_decades", "disjoint"],
        ),
        Table(
            "outcomes", "Outcomes of the trainings", "One row a training; definitions above.",
            data.outcomes,
            ["pair", "weights", "weights_from", "lr_of", "lr_kind", "policy", "lr", "epochs",
             "outcome", "final_val_accuracy", "best_val_accuracy", "reason"],
        ),
        Table(
            "rules", "All rules on the weights sweep", BARS, every,
            ["backend", "protocol", "rule", "quantity", *RANGE],
        ),
        Table("claims", "Claims", "", judged, []),
    ]  # fmt: skip
    return [table for table in made if len(table.frame)]


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
    frame.attrs = attrs
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return {"csv": frame.to_csv(index=False).encode(), "parquet": buffer.getvalue()}


def cells(table: Table) -> list[list[str]]:
    """The shown columns as words, row by row."""
    return [
        [cell(value) for value in row]
        for row in table.frame[table.shown].itertuples(index=False, name=None)
    ]


def cell(value: object) -> str:
    """One value as a person reads it; a dash where there is none."""
    if value is None or value is pd.NA or value is pd.NaT:
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return style.number(float(value))
    return str(value)
