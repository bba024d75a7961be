"""``docs/findings.md``: what the two committed studies found, every number from their tables."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from scipy import stats

from lrrt.analysis.accuracy import accuracy_over_rate
from lrrt.analysis.spread import spread_of
from lrrt.analysis.statistics import decades, paired_effect
from lrrt.claims.study import FASTAI, KERAS
from lrrt.claims.transfer import same_weights, swaps_by_cluster
from lrrt.claims.verdict import UNDECIDED, Grade
from lrrt.claims.weights import disjoint_ranges, weights_change_suggestion
from lrrt.experiments.attribution.tables import BACKEND
from lrrt.report import summary, verdicts, wording
from lrrt.report.figures import attribution_framework
from lrrt.report.study import StudyData
from lrrt.report.verdicts import record_of
from lrrt.report.wording import interval, number

ORDER = list(Grade)
RULES = ("blog_keras", "blog_fastai", "fastai_valley", "fastai_slide", "torch_lr_finder")
KINDS = {"min": "min LR", "middle": "middle", "max": "max LR", "one": "its LR"}
POINTS = 0  # decimals of accuracy in points


def page(blog: StudyData, small: StudyData, records: list[dict], coverage: dict) -> str:
    """The page, Markdown.

    Parameters
    ----------
    blog, small : StudyData
        The study at the post's scale, and the smaller one.
    records : list of dict
        Their claims, judged together (:func:`lrrt.report.verdicts.records`).
    coverage : dict
        ``benchmarks/results/coverage.json``.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lrrt.report", ""),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    studies = (blog, small)
    listed = sorted(records, key=lambda r: (ORDER.index(Grade(r["verdict"])), r["number"]))
    own = blog.own_suggestions("weights", KERAS)
    return environment.get_template("findings.md.j2").render(
        blog=blog,
        small=small,
        holm=verdicts.holm_line(records),
        answer=" ".join(words for words, _ in summary.brief(blog, records)),
        numbers=summary.key_numbers(blog, records),
        spreads=[row for study in studies for row in _spreads(study)],
        fallbacks=int(own["fallback"].astype(bool).sum()),
        keras_runs=len(own),
        weights=[_weights(r) for r in record_of(records, weights_change_suggestion)["results"]],
        moves=_moves(blog),
        rounding=_rounding(blog),
        swaps=_swaps(blog) | _own(records),
        rates=_rates(small),
        smoothing=[row for study in studies for row in _smoothing(study)],
        claims=[_claim(record) for record in listed],
        counts=_counts(records),
        missing=[
            f"{r['number']}, {part or r['short']}: {missing}."
            for r in listed
            for part, missing in _missing(r)
        ],
        taken=_takeaways(blog, small, records, coverage),
    )


def _sd(decades: float) -> str:
    """A standard deviation of log10 LR, as a factor."""
    return f"a factor of {number(10**decades)}"


def _spreads(study: StudyData) -> Iterator[dict]:
    for case in study.home_cases():
        rows = study.own_suggestions("weights", case)
        found = spread_of(rows["max_lr"])
        words = f"around {number(found.centre)}, SD {_sd(found.sd)} ({found.n} runs)"
        if found.low:
            low, high = (100 * end for end in found.share)
            words = (
                f"{wording.spread(found)} (share of the low ones [{low:.0f}, {high:.0f}] %; SD of "
                f"the others {_sd(found.sd)})"
            )
        yield {
            "scale": wording.scale(study.scale),
            "case": wording.case(*case),
            "words": words,
            "factor": f"{number(found.factor)} {interval(found.factor_low, found.factor_high)}",
        }


def _weights(result: dict) -> dict:
    share = [100 * result[name] for name in ("value", "low", "high")]
    return {
        "scale": result["scale"],
        "part": result["part"],
        "share": f"{share[0]:.0f} % [{share[1]:.0f}, {share[2]:.0f}]",
        "f": number(result["numbers"]["f"]),
        "p": wording.p_value(result["p"]).removeprefix("p ").removeprefix("= "),
        "spread": _sd(result["numbers"]["spread"]),
        "robust": result["robust"],
    }


def _moves(study: StudyData) -> dict[str, str]:
    effects = attribution_framework.main_effects(study)
    names = {"protocol": "protocol", BACKEND: "backend"}
    return {
        f"{names[kind]}_{quantity.removesuffix('_lr')}": wording.multiple(row)
        for (kind, quantity), row in effects.items()
    }


def _rounding(study: StudyData) -> dict[str, Any]:
    pairs = study.rounding_pairs
    pairs = pairs[(pairs["backend"] == FASTAI[0]) & (pairs["protocol"] == FASTAI[1])]

    def effect(rows: pd.DataFrame) -> tuple[Any, np.ndarray]:
        before, after = decades(rows["max_lr"]), decades(rows["max_lr_rounded"])
        return paired_effect(before, after), after - before

    found, difference = effect(pairs[pairs["sweep"] == "weights"])
    both, _ = effect(pairs)
    return {
        "effect": wording.multiple(found._asdict()),
        "n": found.n,
        "p": number(float(stats.ttest_1samp(difference, 0).pvalue)),
        "all_effect": wording.multiple(both._asdict()),
        "all_n": both.n,
        "gpu": number(found.before),
        "cpu": number(found.after),
    }


def _swaps(study: StudyData) -> dict[str, Any]:
    swapped = study.swap_accuracies
    rows = study.outcomes_of(lr_kind="max")
    rows = rows[rows["pair"].isin(swapped.index)]
    ratios = rows.groupby("pair")["lr"].agg(lambda lrs: lrs.max() / lrs.min())
    cells = {}
    for (weights, lr_of), cell in rows.groupby(["weights", "lr_of"]):
        median = swapped[weights + lr_of].median()
        became = wording.outcomes(cell["compared_outcome"])
        cells[weights + lr_of] = f"{100 * median:.0f} %: {became}"
    lower = swaps_by_cluster(study)["lower"]
    return cells | {
        "pairs": len(swapped),
        "ratio": wording.fold(ratios.median()),
        "lower": wording.gain(lower),
        "clusters": len(lower),
    }


def _own(records: list[dict]) -> dict[str, Any]:
    main = record_of(records, same_weights)["results"][0]
    value, low, high = (wording.change(100 * main[n], POINTS) for n in ("value", "low", "high"))
    return {"own": f"{value} points [{low}, {high}]", "all_pairs": main["runs"]}


def _rates(study: StudyData) -> dict[str, Any]:
    rows, best, trainings = [], [], 0
    resamples = study.config.report.bootstrap_resamples
    for protocol in ("blog_fastai", "blog_keras"):
        found = accuracy_over_rate(study.outcomes, study.suggestions, "torch", protocol, resamples)
        trainings += len(found.trainings)
        ends = number(found.best["good_from"]), number(found.best["good_to"])
        best.append(
            f"{number(found.best['lr'])} with the {wording.name(protocol)} "
            f"({100 * found.best['accuracy']:.0f} % accuracy; within 5 points from {ends[0]} to "
            f"{ends[1]})"
        )
        shown = found.suggested[found.suggested["rule"].isin(RULES)].dropna(subset=["regret"])
        for row in shown.sort_values("regret").itertuples():
            points = [100 * v for v in (row.regret, row.regret_low, row.regret_high)]
            rows.append(
                {
                    "protocol": wording.name(protocol),
                    "rule": row.rule,
                    "kind": KINDS[row.kind],
                    "lr": number(row.median_lr),
                    "regret": f"{points[0]:.0f} points [{points[1]:.0f}, {points[2]:.0f}]",
                    "within": wording.percent(row.within),
                }
            )
    cycles = study.outcomes[study.outcomes["policy"].eq("one_cycle")]
    words = [
        f"{100 * mine['final_val_accuracy'].min():.0f} to "
        f"{100 * mine['final_val_accuracy'].max():.0f} % accuracy with the "
        f"{wording.name(protocol)} ({len(mine)} trainings)"
        for protocol, mine in cycles.groupby("protocol")
    ]
    return {
        "rows": rows,
        "best": wording.listed(best),
        "trainings": trainings,
        "cycles": wording.listed(words),
    }


def _smoothing(study: StudyData) -> Iterator[dict]:
    for case in study.home_cases():
        rows = study.smoothing_shift.query("backend == @case[0] and protocol == @case[1]")
        parts = {row["part"]: wording.multiple(row) for row in rows.to_dict("records")}
        yield {
            "scale": wording.scale(study.scale),
            "case": f"{wording.case(*case)} ({rows['n'].max()} runs)",
            **{name: parts[name] for name in ("truncation", "lag", "both")},
        }


def _claim(record: dict) -> dict:
    main = record["results"][0] if record["results"] else {"scale": "", "robust": ""}
    return record | {
        "named": f" ({record['about']})" if record["about"] else "",
        "scale": main["scale"] or "–",
        "robust": record["robust"] or "–",
        "units": record["units"] or "–",
        "effect": record["effect"] or "–",
    }


def _counts(records: list[dict]) -> str:
    counts = Counter(record["verdict"] for record in records)
    words = [f"{counts[grade]} {grade}" for grade in ORDER if counts[grade]]
    decided = sum(count for grade, count in counts.items() if grade not in UNDECIDED)
    return f"{decided} of {len(records)} are judged: {wording.listed(words)}."


def _missing(record: dict) -> list[tuple[str, str]]:
    """What of a claim is open, and the runs that would decide it."""
    found = [
        (f"{result['part']} ({result['scale']})", result["missing"])
        for result in record["results"]
        if result["missing"]
    ]
    return [("", record["missing"])] if record["missing"] else found


def _takeaways(blog: StudyData, small: StudyData, records: list[dict], coverage: dict) -> dict:
    spread = spread_of(blog.own_suggestions("weights", KERAS)["max_lr"])
    main = record_of(records, weights_change_suggestion)["results"][0]
    kinds = [kind for kind in coverage.values() if isinstance(kind, dict)]
    left = [(1 - main[name]) ** 0.5 for name in ("value", "high", "low")]
    fallback = record_of(records, disjoint_ranges)["results"][0]["numbers"]
    return {
        "factor": interval(spread.factor_low, spread.factor_high),
        "modes": f'"{wording.spread(spread)}"',
        "coverage": wording.percent(min(k["covered_by_all_degrees_of_freedom"] for k in kinds)),
        "left": f"{left[0]:.2f} [{left[1]:.2f}, {left[2]:.2f}]",
        "disjoint": fallback["disjoint"],
        "lower20": wording.gain(swaps_by_cluster(small)["lower"]),
    }


def coverage(root: Path) -> dict:
    """The committed simulation of intervals."""
    return json.loads((root / "benchmarks" / "results" / "coverage.json").read_text())
