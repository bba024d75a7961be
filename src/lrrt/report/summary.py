"""The study in numbers: ``metrics.json``, the data of ``dvc plots``, and the answer in brief."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from lrrt.analysis.statistics import MINIMUM_RUNS, are_usable, log_quantiles, usable
from lrrt.claims.study import Case
from lrrt.claims.verdict import UNDECIDED, Grade
from lrrt.experiments.attribution.tables import BACKEND
from lrrt.experiments.sweep.dispersion import range_summary
from lrrt.experiments.transfer.tables import LAGGING
from lrrt.report import wording
from lrrt.report.figures import attribution_framework, instrument, runs, variance
from lrrt.report.study import StudyData, of_case
from lrrt.report.wording import number

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
            data.suggested("weights", case)["max_lr"], [0.5]
        )[0]
        found[f"max_lr_90_over_10_percent_{case[0]}"] = runs.ratio(data, "weights", case)
    if len(data.swapped):
        higher, lower = data.swapped[["AA", "BA"]], data.swapped[["AB", "BB"]]
        found["accuracy_at_higher_max_lr"] = higher.to_numpy().mean()
        found["accuracy_at_lower_max_lr"] = lower.to_numpy().mean()
    if (known := data.published["inside"].dropna().astype(bool)).size:
        found["published_medians_confirmed"] = int(known.sum())
    found["claims_decided"] = sum(claim["verdict"] not in UNDECIDED for claim in claims)
    found["claims_undecided"] = len(claims) - found["claims_decided"]
    return {
        name: value if isinstance(value, int) else _rounded(value)
        for name, value in found.items()
        if math.isfinite(value)
    }


def key_numbers(data: StudyData) -> list[KeyNumber]:
    """The five numbers that sum a study up; one that it lacks is left out."""
    return [row for row in (f(data) for f in (_varies, _same, _higher, _moves, _lags)) if row]


def _varies(data: StudyData) -> KeyNumber | None:
    ratios = {case: runs.ratio(data, "weights", case) for case in data.home_cases()}
    ratios = {case: ratio for case, ratio in ratios.items() if math.isfinite(ratio)}
    parts = [f"{wording.fold(ratio)} ({wording.name(case[0])})" for case, ratio in ratios.items()]
    n = sorted({len(data.suggested("weights", case)) for case in ratios})
    return (
        KeyNumber(
            "How much does the suggested maximum vary from run to run?",
            wording.listed(parts),
            f"10 to 90 % of {wording.listed(map(str, n))} runs with new weights and batch order",
            "runs",
        )
        if parts
        else None
    )


def _same(data: StudyData) -> KeyNumber | None:
    rows = variance.left(data).query("fixed == 'weights' and quantity == 'max_lr'")
    parts = [
        f"{wording.percent(row.ratio)} [{100 * row.low:.0f}, {100 * row.high:.0f}] "
        f"({wording.name(row.protocol)})"
        for row in rows.itertuples()
    ]
    return (
        KeyNumber(
            "How much of that is left with the same initial weights?",
            wording.listed(parts),
            f"standard deviation of log max LR, {rows['n'].max()} runs a protocol, "
            f"{data.scale_of(data.config.variance)}",
            "variance",
        )
        if parts
        else None
    )


def _higher(data: StudyData) -> KeyNumber | None:
    swapped = data.swapped
    return (
        KeyNumber(
            "What does the lower of two suggested maxima gain?",
            wording.gain(swapped["lower"]),
            f"accuracy, {len(swapped)} pairs of very different runs, both weights at both maxima",
            "swaps",
        )
        if len(swapped)
        else None
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
    rows = instrument.lags(data).query("value == 'two-sided' and quantity == 'max_lr'")
    parts = [
        f"{wording.fold(row.ratio)} ({wording.name(row.protocol)})"
        if not row.low <= 1 <= row.high
        else f"no clear shift ({wording.name(row.protocol)})"
        for row in rows.itertuples()
    ]
    return (
        KeyNumber(
            "How far too high does smoothing put the lowest loss?",
            "; ".join(parts),
            f"against a two-sided average of the same {rows['n'].max()} curves",
            "instrument",
        )
        if parts
        else None
    )


def limits(data: StudyData) -> str:
    """What the answer does not reach, in a line."""
    rows = data.cells(lr_kind="max")
    parts = ["One data set, one network"]
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
            values[f"{row.quantity}_median"] = _rounded(row.median)
            values[f"{row.quantity}_decades"] = _rounded(math.log10(row.q90 / row.q10))
        if row.quantity == "max_lr":
            values["abstained_share"] = _rounded(row.abstained / row.n)
            values["fallback_share"] = _rounded(row.fallbacks / row.n)
    return found


def _published(data: StudyData) -> dict:
    inside = data.published["inside"].dropna()
    return {"medians_inside": int(inside.astype(bool).sum()), "medians_compared": len(inside)}


def _pair(pair: dict) -> dict:
    gap = pair["gap_decades"]
    return {
        **({} if gap is None else {"gap_decades": _rounded(gap)}),
        "disjoint_pairs": pair["disjoint_pairs"],
        "pairs": pair["pairs"],
    }


def _outcomes(data: StudyData) -> dict:
    """By case: outcomes of all trainings, and after equally many epochs of weights A and B at both
    max LRs (where trained)."""
    crossed = data.cells(lr_kind="max")
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


def _rounded(value: float) -> float:
    """Four significant digits: what a person compares."""
    return float(f"{value:.4g}")


def loss_points(data: StudyData) -> list[dict]:
    """Median smoothed loss and band by LR of the weights sweep, for ``dvc plots``."""
    points = []
    for case in data.cases("weights"):
        band = data.band("weights", case, data.config.sweep.batch_size)
        for row in band.itertuples():
            values = {name: getattr(row, name) for name in ("low", "median", "high")}
            known = {name: _rounded(v) if np.isfinite(v) else None for name, v in values.items()}
            points.append({"case": wording.case(*case), "lr": _rounded(row.lr), **known})
    return points


def range_points(data: StudyData) -> list[dict]:
    """Every suggested LR of the weights and order sweeps, for ``dvc plots``."""
    points = []
    for sweep in SWEEPS:
        for case in data.cases(sweep):
            for row in data.suggested(sweep, case).itertuples():
                for quantity in ("min_lr", "max_lr"):
                    lr = getattr(row, quantity)
                    if are_usable(lr):
                        points.append(
                            {
                                "case": f"{wording.case(*case)}, {sweep}",
                                "quantity": wording.name(quantity),
                                "lr": _rounded(lr),
                                "weights_seed": row.weights_seed,
                                "order_seed": row.order_seed,
                            }
                        )
    return points


def brief(data: StudyData, claims: list[dict]) -> list[tuple[str, str]]:
    """The answer in a few sentences, each made from this study's numbers, and the name of the
    figure that shows it (or nothing)."""
    found = [(_spread(data, case), "runs") for case in data.home_cases()]
    found += [(_transferred(data), "swaps"), (_judged(claims), "claims")]
    return [(sentence, name) for sentence, name in found if sentence]


def _transferred(data: StudyData) -> str:
    rows, swapped = data.cells(lr_kind="max"), data.swapped
    if not {"A", "B"} <= set(rows.loc[rows["weights"] == "B", "lr_of"]):
        return ""
    both = rows[rows["pair"].isin(swapped.index)]
    only_b = rows[~rows["pair"].isin(swapped.index)]
    epochs = f"for {rows['compared_epochs'].iloc[0]} epochs"
    parts = []
    if len(both):
        parts.append(
            f"Both weights of {len(swapped)} pairs of runs were trained {epochs} at the max LR "
            f"suggested for A, the higher, and at the one for B. {_cells(data, both)} B's gain "
            f"{wording.gain(swapped['lower'])} of validation accuracy over A's, the weights' own "
            f"{wording.gain(swapped['own'])} over each other's."
        )
    if len(only_b):
        count = only_b["pair"].nunique()
        pairs = f"{count} {'more ' if parts else ''}pair{'s' if count > 1 else ''}"
        parts.append(f"Of {pairs} only weights B were, {epochs}. {_cells(data, only_b)}")
    transfers = rows[(rows["weights"] == "B") & (rows["lr_of"] == "A")]
    longer = transfers[transfers["epochs"] > transfers["compared_epochs"]]
    if len(longer):
        parts.append(
            f"Weights B went on at A's: after {longer['epochs'].max()} epochs "
            f"{wording.outcomes(longer['outcome'])}."
        )
    overfits = int(data.outcomes["outcome"].eq("overfits").sum())
    parts.append(f"Of all {len(data.outcomes)} trainings {overfits or 'none'} overfits.")
    if rows["compared_outcome"].eq("lags").any():
        parts.append(LAGGING)
    return " ".join(parts)


def _cells(data: StudyData, rows: pd.DataFrame) -> str:
    """What became of weights A and B at A's LR and at B's, in a sentence for each LR."""
    accuracy = pd.Series(data.accuracies(list(rows["training"])), index=rows.index)
    sentences = []
    for lr_of, at_lr in rows.groupby("lr_of"):
        cells = [
            f"weights {weights} {wording.outcomes(cell['compared_outcome'])} "
            f"({accuracy[cell.index].median():.0%} validation accuracy in the median)"
            for weights, cell in at_lr.groupby("weights")
        ]
        sentences.append(f"At {lr_of}'s: {'; '.join(cells)}.")
    return " ".join(sentences)


def _judged(claims: list[dict]) -> str:
    verdicts = _counts(claim["verdict"] for claim in claims)
    listed = ", ".join(f"{verdicts[grade]} {grade}" for grade in Grade if grade in verdicts)
    return listed and f"The post's {len(claims)} claims, judged on these runs: {listed}."


def _spread(data: StudyData, case: Case) -> str:
    """The range of one case, and how far its maximum moves with new and with the same weights."""
    parts = []
    for sweep, words in (
        ("weights", "New weights and batch orders move its maximum from"),
        ("order", "With the same weights, new batch orders alone move it from"),
    ):
        rows = data.suggested(sweep, case)
        rows = rows[rows["batch_size"] == data.config.sweep.batch_size]
        values = usable(rows["max_lr"])
        if len(values) < 2:
            continue
        if not parts:
            low, high = (log_quantiles(rows[name], [0.5])[0] for name in ("min_lr", "max_lr"))
            parts.append(
                f"{wording.case(*case)}: the suggested range is, in the median of {len(values)} "
                f"runs, {number(low)} to {number(high)}."
            )
        if len(values) < MINIMUM_RUNS:
            continue  # too few to speak of a spread
        low, high = log_quantiles(values, (0.1, 0.9))
        parts.append(
            f"{words} {number(low)} to {number(high)} (10 to 90 % of {len(values)} runs), a factor "
            f"of {number(high / low)}."
        )
    return " ".join(parts)
