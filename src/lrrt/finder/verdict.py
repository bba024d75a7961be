"""What to make of the suggestions of many range tests: summary, verdict and its reasons."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lrrt.analysis.statistics import median_interval
from lrrt.finder.curve import FLAWS, NEVER_FELL, general

#: What varies from run to run.
VARIED = {
    "both": "new weights and a new order of the data in each run",
    "weights": "new weights in each run, always the same order of the data",
    "order": "the same weights in each run, a new order of the data",
}
FACTORS = (0.1, 1.0, 10.0)  # of the suggestion, for the short trainings

# The verdict's rules.
ENOUGH_RUNS = 5
LEAST_TRAIN_STEPS = 10
ABSTAINS_TOO_OFTEN = 0.25  # share of runs without a suggestion
USUAL_SHARE = 0.9  # of the runs, within the factor that a verdict names
CLOSE, LOOSE = 3.0, 10.0  # factors
CLEARLY_LOWER = 0.9  # a loss below this share of another is clearly lower


@dataclass(frozen=True)
class Trial:
    """A short training at ``factor`` times the audit's suggestion, from one run's weights and
    order. ``loss``: of validation data, else the mean of the last tenth of its steps; infinite if
    a loss was not finite. ``lowered``: whether the last tenth's losses were clearly lower than the
    first's."""

    run: int
    factor: float
    lr: float
    loss: float
    lowered: bool = True


@dataclass(frozen=True)
class Summary:
    """A rule's suggestions over runs. ``values``: the learning rates of those that have one.

    ``spread``: decades between the smallest and the largest; ``factor``: the factor around the
    median that holds :data:`USUAL_SHARE` of them; ``low``, ``high``: 95 % bootstrap interval of
    the median, in log10; ``cautions``: in how many runs each speaks against it.
    """

    rule: str
    runs: int
    values: tuple[float, ...]
    fallbacks: int
    reasons: tuple[str, ...]  # of the abstentions
    median: float | None
    low: float
    high: float
    spread: float
    factor: float
    cautions: Mapping[str, int] = field(default_factory=dict)

    @property
    def abstained(self) -> int:
        return self.runs - len(self.values)

    def to_dict(self) -> dict[str, Any]:
        values = {name: plain(value) for name, value in vars(self).items()}
        return values | {"abstained": self.abstained}

    def __str__(self) -> str:
        if self.median is None:
            return f"{self.rule}: no suggestion in {self.runs} runs"
        interval = "" if math.isnan(self.low) else f" [{self.low:.2g}, {self.high:.2g}]"
        return (
            f"{self.rule}: {self.median:.2g}{interval}, {self.spread:.2f} decades apart, "
            f"{self.abstained} of {self.runs} runs without a suggestion"
        )


def summarise(rule: str, suggestions: Any) -> Summary:
    """The :class:`Summary` of one rule's suggestions, one per run."""
    suggestions = list(suggestions)
    values = [s.lr for s in suggestions if s.lr is not None and 0 < s.lr < math.inf]
    logs = np.log10(values)
    median = float(np.median(logs)) if values else math.nan
    low, high = median_interval(np.array(values))
    return Summary(
        rule=rule,
        runs=len(suggestions),
        values=tuple(values),
        fallbacks=sum(s.fallback for s in suggestions),
        reasons=tuple(s.reason for s in suggestions if s.lr is None),
        median=10**median if values else None,
        low=low,
        high=high,
        spread=float(np.ptp(logs)) if values else math.nan,
        factor=float(10 ** np.quantile(abs(logs - median), USUAL_SHARE)) if values else math.nan,
        cautions=dict(Counter(general(caution) for s in suggestions for caution in s.cautions)),
    )


def verdict(
    summary: Summary,
    trials: Sequence[Trial] = (),
    flaw: str = "",
    unvaried: Sequence[str] = (),
) -> list[str]:
    """What to make of a rule's suggestions, by the rules above: the verdict and its reasons.

    ``flaw``: what is wrong with the runs' mean loss, if anything, which counts where most single
    runs have one, too; ``unvaried``: what was to vary from run to run and did not, a clause each.
    """
    n, valid, cautions = summary.runs, len(summary.values), summary.cautions
    flawed = flaw and sum(cautions.get(of_one, 0) for of_one in FLAWS) > n / 2
    told = [
        f"In {k} of {n} runs {caution}." + " Over all runs it fell." * (caution == NEVER_FELL)
        for caution, k in cautions.items()
        if not (flawed and caution in FLAWS)
    ]
    reason = "".join(f": {most}" for most, _ in Counter(summary.reasons).most_common(1))
    if not valid:
        return [f"Do not trust it: the rule found nothing in any of {n} runs{reason}.", *told]
    reasons = [
        f"{100 * USUAL_SHARE:.0f} % of the runs lie within a factor of {summary.factor:.2g} of the "
        f"median, {summary.median:.2g}; the furthest two are {summary.spread:.2f} decades apart."
    ]
    against, tried = tried_out(trials)
    reasons += tried
    reasons += told
    if flawed or unvaried:
        clauses = [*[flaw] * bool(flawed), *unvaried]
        return [*(f"Do not trust it: {clause}." for clause in clauses), *reasons]
    if n < ENOUGH_RUNS:
        return [f"Too few runs to say: {n}; a verdict needs {ENOUGH_RUNS}.", *reasons]
    if summary.abstained > ABSTAINS_TOO_OFTEN * n:
        found = (
            f"Do not trust it: the rule found nothing in {summary.abstained} of {n} runs{reason}."
        )
    elif summary.factor > LOOSE:
        found = (
            f"Do not trust it: one run's suggestion may be {summary.factor:.0f} times too high or "
            "too low."
        )
    elif against:
        found = "Do not trust it: it repeats well enough, but short trainings speak against it."
    else:
        found = f"Trust it to within a factor of {max(summary.factor, 1.1):.2g}"
        if summary.factor > CLOSE:
            found = f"Trust its order of magnitude only, {found[len('Trust it ') :]}"
        if summary.abstained:
            found += f", where it answers: not in {summary.abstained} of {n} runs"
        found += "."
    if not trials:
        reasons.append("This is how well it repeats; whether it trains well, trainings would say.")
    return [found, *reasons]


def tried_out(trials: Sequence[Trial]) -> tuple[bool, list[str]]:
    """Whether short trainings at and around the suggestion speak against it, and how."""
    losses = {f: np.array([t.loss for t in trials if t.factor == f]) for f in FACTORS}
    at, n = losses[1.0], len(losses[1.0])
    if not n:
        return False, []
    against, sentences = False, []
    failed = int((~np.isfinite(at)).sum())
    if failed:
        against = failed > n / 2
        sentences.append(
            f"Trained at the suggestion, the loss ended up not finite in {failed} of {n} runs."
        )
    for factor, words, wrong in ((0.1, "a tenth of", "high"), (10.0, "ten times", "low")):
        with np.errstate(invalid="ignore"):
            lower = clearly_lower(losses[factor], at)
        better = int((np.isfinite(losses[factor]) & (lower | ~np.isfinite(at))).sum())
        if better > n / 2:
            against = True
            sentences.append(
                f"Short trainings at {words} it reached a clearly lower loss in {better} of {n} "
                f"runs: for them it is too {wrong}."
            )
    if not against and not any(trial.lowered for trial in trials):
        sentences.append("No short training lowered the loss clearly: they say nothing about it.")
    elif not against:
        sentences.append(
            "Short trainings bear it out: neither a tenth of it nor ten times it was clearly "
            f"better in most of {n} runs."
        )
    return against, sentences


def clearly_lower(loss: Any, other: Any) -> Any:
    return loss < other - (1 - CLEARLY_LOWER) * np.abs(other)


def plain(value: Any) -> Any:
    """As JSON takes it: numbers that are not finite as text, tuples as lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
