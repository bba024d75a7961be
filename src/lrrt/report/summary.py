"""The study in numbers: ``metrics.json``, ``numbers.json``, and the answer in brief."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from lrrt.analysis.spread import spread_of
from lrrt.analysis.statistics import MINIMUM_RUNS, log_quantiles, mean_interval
from lrrt.claims import Judge
from lrrt.claims.safety import minimum_is_safe, narrower_is_safer, unsafe_without_smoothing
from lrrt.claims.study import Case
from lrrt.claims.transfer import same_weights, swaps_by_cluster, transfer_harms
from lrrt.claims.verdict import UNDECIDED, Grade
from lrrt.claims.weights import weights_change_suggestion
from lrrt.experiments.attribution.tables import BACKEND
from lrrt.experiments.sweep.dispersion import range_summary
from lrrt.report import wording
from lrrt.report.figures import attribution_framework, weights_sweep
from lrrt.report.study import StudyData, of_case
from lrrt.report.verdicts import record_of

SWEEPS = ("weights", "order")


class KeyNumber(NamedTuple):
    """A row of the table of five numbers; ``anchor``: the figure that shows it."""

    question: str
    answer: str
    origin: str
    anchor: str


def metrics(data: StudyData, claims: list[dict]) -> dict:
    """The few plainly named numbers of ``dvc metrics show``, of cases as the post ran them; a
    quantity that the study lacks is left out. All others: :func:`numbers`."""
    found: dict[str, float] = {
        "range_tests": int(data.curves["run"].nunique()),
        "trainings": int(data.trainings["run"].nunique()),
    }
    for case in data.home_cases():
        found[f"max_lr_median_{case[0]}"] = log_quantiles(
            data.own_suggestions("weights", case)["max_lr"], [0.5]
        )[0]
        found[f"max_lr_90_over_10_percent_{case[0]}"] = weights_sweep.ratio(data, "weights", case)
    if len(data.swap_accuracies):
        higher, lower = data.swap_accuracies[["AA", "BA"]], data.swap_accuracies[["AB", "BB"]]
        found["accuracy_at_higher_max_lr"] = higher.to_numpy().mean()
        found["accuracy_at_lower_max_lr"] = lower.to_numpy().mean()
    known = data.published["inside"].dropna().astype(bool)
    if data.at_the_posts_scale and len(known):
        found["published_medians_confirmed"] = int(known.sum())
    found["claims_decided"] = sum(claim["verdict"] not in UNDECIDED for claim in claims)
    found["claims_undecided"] = len(claims) - found["claims_decided"]
    return {
        name: value if isinstance(value, int) else _round(value)
        for name, value in found.items()
        if math.isfinite(value)
    }


def key_numbers(data: StudyData, claims: list[dict]) -> list[KeyNumber]:
    """The five numbers that sum a study up; one that it lacks is left out."""
    found = (_varies(data), _weights(claims), _higher(data), _moves(data), _lags(data))
    return [row for row in found if row]


def _varies(data: StudyData) -> KeyNumber | None:
    spreads = {case: spread_of(_lrs(data, "weights", case)) for case in data.home_cases()}
    parts = [
        f"{wording.spread(found)} ({wording.name(case[1])})"
        for case, found in spreads.items()
        if found.n >= MINIMUM_RUNS
    ]
    if not parts:
        return None
    n = wording.listed(map(str, sorted({found.n for found in spreads.values()})))
    return KeyNumber(
        "How much does the suggested maximum vary from run to run?",
        "; ".join(parts),
        f"{n} runs with new weights and batch order; a factor is between the quantiles of 10 and "
        "90 %",
        "weights_sweep",
    )


def _lrs(data: StudyData, sweep: str, case: Case) -> pd.Series:
    rows = data.own_suggestions(sweep, case)
    return rows.loc[rows["batch_size"] == data.config.sweep.batch_size, "max_lr"]


def _weights(claims: list[dict]) -> KeyNumber | None:
    results = record_of(claims, weights_change_suggestion)["results"]
    shown = [r for r in results if r["value"] is not None]
    if not shown:
        return None
    first = [r for r in shown if r["scale"] == shown[0]["scale"]]
    parts = [
        f"{100 * r['value']:.0f} % [{100 * r['low']:.0f}, {100 * r['high']:.0f}] ({r['part']})"
        for r in first
    ]
    return KeyNumber(
        "How much of that is due to the initial weights?",
        "; ".join(parts),
        f"share of the variance of log max LR, {first[0]['units']} sets of weights, "
        f"{first[0]['runs']} runs a protocol, {first[0]['scale']}",
        "variance",
    )


def _higher(data: StudyData) -> KeyNumber | None:
    lower = data.swap_accuracies["lower"]
    if not len(lower):
        return None
    clusters = swaps_by_cluster(data)["lower"]
    rows = data.outcomes_of(lr_kind="max")
    ratios = rows.groupby("pair")["lr"].agg(lambda lrs: lrs.max() / lrs.min())[lower.index]
    return KeyNumber(
        "How much accuracy does the lower of two suggested maxima gain?",
        wording.gain(clusters),
        f"both sets of weights of {len(lower)} pairs of runs, trained at both maxima "
        f"({len(clusters)} clusters of weights); the pairs are the most different ones, "
        f"{wording.fold(ratios.median())} apart in the median",
        "swaps",
    )


def _moves(data: StudyData) -> KeyNumber | None:
    effects = attribution_framework.main_effects(data)
    kinds = {"protocol": "the protocol", BACKEND: "the framework"}
    rows = {words: effects.get((kind, "min_lr")) for kind, words in kinds.items()}
    if not all(rows.values()):
        return None
    parts = [
        f"{words} {wording.fold(10 ** abs(row['effect']))}"
        if not row["low"] <= 0 <= row["high"]
        else f"{words} makes no clear difference"
        for words, row in rows.items()
    ]
    n = max(row["n"] for row in rows.values())
    return KeyNumber(
        "What moves the suggested minimum: protocol or framework?",
        "; ".join(parts),
        f"{n} runs with the same weights and batches",
        "attribution_framework",
    )


def _lags(data: StudyData) -> KeyNumber | None:
    parts, runs = [], 0
    for case in data.home_cases():
        rows = of_case(data.smoothing_shift, case).set_index("part")
        if not len(rows) or not np.isfinite(rows.at["both", "low"]):
            continue
        both, runs = rows.loc["both"], max(runs, int(rows.at["both", "n"]))
        words = wording.fold(10 ** both["effect"])
        if both["low"] <= 0 <= both["high"]:
            words = "no clear shift"
        parts.append(f"{words} ({wording.name(case[1])})")
    if not parts:
        return None
    return KeyNumber(
        "How far too high does smoothing put the lowest loss?",
        "; ".join(parts),
        f"against a two-sided average of the same {runs} curves",
        "instrument",
    )


def limits(data: StudyData) -> str:
    """What the answer does not reach, in a line."""
    rows = data.outcomes_of(lr_kind="max")
    parts = ["Limits: one data set, one network"]
    if len(rows):
        apart = max((pair["pairs"] for pair in data.pairs.values()), default=0)
        parts.append(f"trainings of {rows['compared_epochs'].iloc[0]} epochs")
        parts.append(f"pairs of runs that are the most different of {apart}, not typical ones")
    return f"{', '.join(parts)}."


def numbers(data: StudyData, claims: list[dict]) -> dict:
    """Nested numbers of all cases, for whoever compares studies by program."""
    return {
        "runs": {
            "range_tests": int(data.curves["run"].nunique()),
            "trainings": int(data.trainings["run"].nunique()),
        },
        "suggestions": {sweep: _suggestions(data, sweep) for sweep in SWEEPS if data.cases(sweep)},
        "published": _published(data),
        "pairs": {name: _pair(pair) for name, pair in data.pairs.items()},
        "outcomes": _outcomes(data),
        "claims": _counts(claim["verdict"].replace(" ", "_") for claim in claims),
    }


def _suggestions(data: StudyData, sweep: str) -> dict:
    """By case, of the own rule: medians, decades from the 10 to the 90 % quantile, shares."""
    summary = range_summary(data.own[data.own["sweep"] == sweep], resamples=100)
    found: dict[str, dict] = {}
    for row in summary[summary["batch_size"] == data.config.sweep.batch_size].itertuples():
        values = found.setdefault(f"{row.backend}-{row.protocol}", {"n": int(row.n)})
        if math.isfinite(row.median):
            values[f"{row.quantity}_median"] = _round(row.median)
            values[f"{row.quantity}_decades"] = _round(math.log10(row.q90 / row.q10))
        if row.quantity == "max_lr":
            values["abstained_share"] = _round(row.abstained / row.n)
            values["fallback_share"] = _round(row.fallbacks / row.n)
    return found


def _published(data: StudyData) -> dict:
    inside = data.published["inside"].dropna()
    return {"medians_inside": int(inside.astype(bool).sum()), "medians_compared": len(inside)}


def _pair(pair: dict) -> dict:
    gap = pair["gap_decades"]
    return {
        **({} if gap is None else {"gap_decades": _round(gap)}),
        "disjoint_pairs": pair["disjoint_pairs"],
        "pairs": pair["pairs"],
    }


def _outcomes(data: StudyData) -> dict:
    """By case: outcomes of all trainings, and after equally many epochs of weights A and B at both
    max LRs (where trained)."""
    crossed = data.outcomes_of(lr_kind="max")
    found = {}
    for case in dict.fromkeys(
        zip(data.outcomes["backend"], data.outcomes["protocol"], strict=True)
    ):
        mine = of_case(crossed, case)
        found["-".join(case)] = {
            "all": _counts(of_case(data.outcomes, case)["outcome"]),
        } | {
            f"{weights}_at_{lr_of}_max": _counts(side["compared_outcome"])
            for (weights, lr_of), side in mine.groupby(["weights", "lr_of"])
        }
    return found


def _counts(values) -> dict[str, int]:
    counts = pd.Series(list(values), dtype="str").value_counts(sort=False)
    return {str(name): int(count) for name, count in sorted(counts.items())}


def _round(value: float) -> float:
    """Four significant digits: what a person compares."""
    return float(f"{value:.4g}")


def brief(data: StudyData, claims: list[dict]) -> list[tuple[str, str]]:
    """The answer in at most 120 words and 8 numbers, each sentence with the name of the figure that
    shows it (or nothing). What a study does not decide is left out."""

    def grade(judge: Judge) -> str:
        return record_of(claims, judge)["verdict"]

    def size(judge: Judge, part: str = "") -> str:
        """Points of accuracy of a claim's first result, or of its largest of such a part."""
        results = record_of(claims, judge)["results"]
        found = [r for r in results if part in r["part"] and r["value"] is not None]
        best = max(found, key=lambda r: abs(r["value"]), default=None) if part else found[0]
        return "" if best is None else f"{abs(100 * best['value']):.0f} points"

    sentences = []
    if grade(unsafe_without_smoothing) == Grade.SUPPORTED:
        words = (
            "Do not train at the suggested maximum with a constant learning rate: it costs "
            f"{size(unsafe_without_smoothing)} of accuracy against a lower one."
        )
        sentences.append((words, "swaps"))
    elif grade(transfer_harms) not in UNDECIDED and len(data.swap_accuracies):
        gains = swaps_by_cluster(data)["lower"]
        if mean_interval(gains)[0] > 0:
            words = (
                f"Of two suggested maxima the lower one gains {wording.gain(gains)} of accuracy."
            )
            sentences.append((words, "swaps"))
    if grade(narrower_is_safer) == Grade.SUPPORTED:
        words = f"The middle of the range gains {size(narrower_is_safer)} over the maximum."
        sentences.append((words, "accuracy"))
    if grade(minimum_is_safe) == Grade.SUPPORTED:
        cost = size(minimum_is_safe, "cost")
        slow = f", but is slow: it costs up to {cost}" if cost else ""
        sentences.append((f"The minimum harmed no training{slow}.", "accuracy"))
    for case in data.home_cases()[:1]:
        spread = spread_of(_lrs(data, "weights", case))
        if spread.n >= MINIMUM_RUNS:
            varies = (
                f"in {spread.low} of {spread.n} repeats the maximum is "
                f"{wording.ratio(spread.centre / spread.low_centre)} times lower than in the "
                "others"
                if spread.low
                else f"over {spread.n} repeats the maximum varies {wording.fold(spread.factor)}"
            )
            words = f"Run several range tests: {varies} ({wording.name(case[1])})."
            sentences.append((words, "weights_sweep"))
    if grade(weights_change_suggestion) == Grade.SUPPORTED:
        main = record_of(claims, weights_change_suggestion)["results"][0]
        share = f"{100 * main['value']:.0f} % of that variance"
        words = f"The initial weights account for {share} with the {main['part']}."
        sentences.append((words, "variance"))
    if grade(same_weights) == Grade.NO_EFFECT:
        margin = f"{100 * record_of(claims, same_weights)['smallest']:.0f} points of accuracy"
        words = f"Still, training from the same weights as the range test gains less than {margin}."
        sentences.append((words, "swaps"))
    return [*sentences, (_judgement_count(claims), "claims")]


def _judgement_count(claims: list[dict]) -> str:
    decided = sum(claim["verdict"] not in UNDECIDED for claim in claims)
    return f"{decided} of the post's {len(claims)} claims are judged below."
