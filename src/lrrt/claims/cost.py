"""What a range test costs."""

import math
from collections.abc import Sequence

import numpy as np

from lrrt.analysis.published import VALIDATION_COST
from lrrt.claims import claim, margins
from lrrt.claims.study import Study
from lrrt.claims.verdict import Effect, Grade, Result, Verdict, not_run


@claim(
    12,
    "Validation at every step is impractical, 33 times as long",
    "Validating at every step makes the range test impractical: 33 times as long.",
)
def validation_cost(studies: Sequence[Study]) -> Verdict:
    """Work: images that pass, a training step being three forward passes. Time: a validated range
    test's seconds over the median of those that do not validate and are alike in backend, protocol,
    batch size, steps, device and precision; nothing where these are fewer than two or spread more
    than {UNSTEADY:g}-fold. Impractical from a factor of {FACTOR:g} on. Supported if time or work
    lies within a factor of {FACTOR:g} of 33; partly if it is impractical and less than that;
    contradicted if all of it is below {FACTOR:g}."""
    results = []
    for study in studies:
        config = study.config
        if not any(config.sweeps[s].validation != "none" for s in set(study.curves["sweep"])):
            continue
        ratio = 1 + config.data.test_images / (3 * config.sweep.batch_size)
        work = _factor("work with validation / without", ratio, ratio, ratio)
        results.append(
            Result(
                "work",
                (study.scale,),
                _impractical(ratio, ratio),
                "by images, {tested} validated after each batch of {batch}, it is {effect} times.",
                work,
                robust="yes",
                numbers={"tested": config.data.test_images, "batch": config.sweep.batch_size},
            )
        )
        ratios = _seconds(study)
        if ratios:
            low, high = min(ratios), max(ratios)
            middle = float(np.exp(np.mean(np.log(ratios))))
            effect = _factor("seconds with / without", middle, low, high)
            results.append(
                Result(
                    "time",
                    (study.scale,),
                    _impractical(low, high),
                    "by the clock, {runs} validated range tests took {effect} times as long.",
                    effect,
                    runs=len(ratios),
                    robust="fragile" if len(ratios) < 6 else "yes",
                )
            )
    if not results:
        return not_run("a range test with validation (sweep validation) and its times")
    results.sort(key=lambda r: r.part, reverse=True)
    grades = {r.grade for r in results}
    grade = Grade.PARTLY if len(grades) > 1 or Grade.PARTLY in grades else grades.pop()
    work, time = (
        "; ".join(
            f"{r.effect.value:.2g} times at batch {r.scales[0].batch_size}"
            for r in results
            if r.part == part
        )
        for part in ("work", "time")
    )
    shown = f"{work}, by the clock {time}" if time else work
    return Verdict(
        grade,
        tuple(results),
        f"Counted in images, validating at every step costs {shown}; the post measured 33 times.",
        missing="three pairs of plain and validated range tests, alternating on a quiet machine"
        if not any(r.part == "time" and r.runs >= 3 for r in results)
        else "",
    )


def _factor(quantity: str, value: float, low: float, high: float) -> Effect:
    return Effect(quantity, value, low, high, "factor", margins.FACTOR, 1.0)


def _impractical(low: float, high: float) -> Grade:
    if low >= VALIDATION_COST / margins.FACTOR:
        return Grade.SUPPORTED
    return Grade.CONTRADICTED if high < margins.FACTOR else Grade.PARTLY


def _seconds(study: Study) -> list[float]:
    alike = ["backend", "protocol", "batch_size", "steps", "device", "precision"]
    identity = ["run", "backend", "protocol", "sweep", "batch_size", "device", "precision"]
    timed = study.curves.groupby(identity).size().rename("steps").reset_index()
    timed["seconds"] = timed["run"].map(dict(study.seconds)).astype(float)
    sweeps = timed["sweep"].map(study.config.sweeps)
    timed["validated"] = [sweep.validation != "none" for sweep in sweeps]
    timed = timed.dropna(subset=["seconds"]).drop_duplicates(["run", "protocol", "validated"])
    ratios: list[float] = []
    for _, rows in timed.groupby(alike):
        validated = rows["validated"].astype(bool)
        plain = rows.loc[~validated, "seconds"]
        if len(plain) > 1 and plain.quantile(0.9) <= margins.UNSTEADY * plain.quantile(0.1):
            ratios += list(rows.loc[validated, "seconds"] / plain.median())
    return [ratio for ratio in ratios if math.isfinite(ratio)]
