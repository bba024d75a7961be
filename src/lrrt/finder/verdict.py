"""What to make of the suggestions of many range tests: what to train at, how sure, and why."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lrrt.finder import rules
from lrrt.finder.curve import FLAWS, NEVER_FELL, general

#: What varies from run to run.
VARIED = {
    "both": "new weights and a new order of the data in each run",
    "weights": "new weights in each run, always the same order of the data",
    "order": "the same weights in each run, a new order of the data",
}
LR_FACTORS = (0.1, 1.0, 10.0)  # of the suggestion, for the short trainings
#: Schedules of the short trainings, and how a sentence names them.
SCHEDULES = {"constant": "a constant rate", "one_cycle": "one cycle"}

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
    order: at a constant rate, or by one cycle up to that rate.

    ``loss``: of validation data, else the mean of the last tenth of its steps; infinite if a loss
    was not finite. ``lowered``: whether the last tenth's losses were clearly lower than the
    first's.
    """

    run: int
    factor: float
    lr: float
    loss: float
    lowered: bool = True
    schedule: str = "constant"


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
            return f"{self.rule} suggests nothing in {self.runs} range test{'s' * (self.runs > 1)}."
        interval = ""
        if not math.isnan(self.low):
            interval = f" (95 % bootstrap interval {self.low:.2g} to {self.high:.2g})"
        return (
            f"{self.rule} suggests {self.median:.2g}, the median of {len(self.values)} of "
            f"{self.runs} range test{'s' * (self.runs > 1)}{interval}."
        )


def summarise(rule: str, suggestions: Any) -> Summary:
    """The :class:`Summary` of one rule's suggestions, one per run."""
    suggestions = list(suggestions)
    values = [s.lr for s in suggestions if s.lr is not None and 0 < s.lr < math.inf]
    logs = np.log10(values)
    median = float(np.median(logs)) if values else math.nan
    # SciPy takes as long to import as half of PyTorch: after the runs, not before the first step.
    from lrrt.analysis.statistics import median_interval

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


@dataclass(frozen=True)
class Recommendation:
    """What to train at by ``schedule``.

    ``lr``: ``factor`` times the audit's suggestion, None where no rate can be recommended;
    ``better``: in how many of ``runs`` short trainings bore it out, that is, ended clearly lower
    than at the suggestion, or, at the suggestion itself, than at a tenth of it and at ten times it;
    ``low``, ``high``: 95 % interval of that share (Clopper and Pearson); ``loss``, ``suggested``:
    median loss there and at the suggestion; NaN without short trainings.
    """

    schedule: str
    lr: float | None
    factor: float = 1.0
    better: int = 0
    runs: int = 0
    low: float = math.nan
    high: float = math.nan
    loss: float = math.nan
    suggested: float = math.nan

    def reason(self) -> str:
        """How sure it is, a sentence; empty without short trainings."""
        if not self.runs:
            return ""
        where = f"Short trainings with {SCHEDULES[self.schedule]}"
        if self.lr is None:
            return f"{where} failed at every rate that was tried in most of {self.runs} runs."
        runs = f"in {self.better} of {self.runs} runs"
        share = f"(95 % interval of this share: {100 * self.low:.0f} to {100 * self.high:.0f} %)"
        if self.factor == 1:
            return (
                f"{where}: {runs} neither a tenth of that rate nor ten times it ended at a clearly "
                f"lower loss {share}."
            )
        further = "higher" if self.factor > 1 else "lower"
        return (
            f"{where}: {runs} that rate ended at a clearly lower loss than the suggestion {share}, "
            f"{self.loss:.2g} instead of {self.suggested:.2g} in the median. No {further} rate was "
            "tried."
        )


def recommend(
    summary: Summary, trials: Sequence[Trial] = (), schedule: str = "constant"
) -> Recommendation:
    """The rate among those tried that most runs' short trainings speak for; without any, the
    suggestion."""
    losses = losses_by_factor(trials, schedule)
    at, n = losses[1.0], len(losses[1.0])
    if summary.median is None or not n or not any(t.lowered for t in trials):
        return Recommendation(schedule, summary.median)
    better = {factor: clearly_better(losses, factor) for factor in LR_FACTORS if factor != 1}
    best = max(better, key=lambda factor: (better[factor].sum(), -np.median(losses[factor])))
    chosen, count = best, int(better[best].sum())
    if count <= n / 2:
        chosen, count = 1.0, int((~np.any(list(better.values()), axis=0) & np.isfinite(at)).sum())
    from scipy.stats import binomtest

    low, high = binomtest(count, n).proportion_ci(method="exact")
    lost = (~np.isfinite(losses[chosen])).sum() > n / 2
    return Recommendation(
        schedule,
        None if lost else summary.median * chosen,
        chosen,
        count,
        n,
        float(low),
        float(high),
        float(np.median(losses[chosen])),
        float(np.median(at)),
    )


def losses_by_factor(trials: Sequence[Trial], schedule: str) -> dict[float, np.ndarray]:
    """Losses of each run's short training, (runs,), by factor."""
    tried = [trial for trial in trials if trial.schedule == schedule]
    return {f: np.array([t.loss for t in tried if t.factor == f]) for f in LR_FACTORS}


def clearly_better(losses: Mapping[float, np.ndarray], factor: float) -> np.ndarray:
    """In which runs, (runs,), the loss was clearly lower than at the suggestion."""
    with np.errstate(invalid="ignore"):
        lower = clearly_lower(losses[factor], losses[1.0])
    return np.isfinite(losses[factor]) & (lower | ~np.isfinite(losses[1.0]))


def advice(summary: Summary, recommended: Sequence[Recommendation], doubted: bool) -> list[str]:
    """What to train at, a sentence first, and how sure that is.

    ``doubted``: whether the range tests are no ground for anything (:func:`doubts`).
    """
    given = [r for r in recommended if r.lr is not None]
    # Where the suggestions scatter, only trainings at their median speak for it.
    if doubted or not given or (summary.factor > LOOSE and not any(r.runs for r in given)):
        reasons = [] if doubted else [r.reason() for r in recommended if r.runs]
        return ["These range tests recommend no learning rate.", *reasons]
    shares = {0.1: "a tenth of ", 1.0: "", 10.0: "ten times "}
    sentences = []
    for r in given:
        schedule = f" with {SCHEDULES[r.schedule]}" if r.runs else ""
        if {r.factor for r in given} == {r.factor} and len(given) > 1:
            schedule = f" with {' or '.join(SCHEDULES[r.schedule] for r in given)}"
        share = shares[r.factor]
        sentences.append(f"Train at {r.lr:.2g}{schedule}: {share}what {summary.rule} suggests.")
    sentences = list(dict.fromkeys(sentences)) + [r.reason() for r in recommended if r.runs]
    for r in given:
        expected = rules.EXPECTED.get((summary.rule, r.schedule))
        if expected is not None and r.factor == 1:
            sentences.append(expected.sentence(summary.rule, SCHEDULES[r.schedule]))
    return sentences


def doubts(summary: Summary, flaw: str = "", unvaried: Sequence[str] = ()) -> list[str]:
    """Why the range tests are no ground for anything, a sentence each; see :func:`verdict`."""
    n, valid = summary.runs, len(summary.values)
    reason = "".join(f": {most}" for most, _ in Counter(summary.reasons).most_common(1))
    if not valid:
        where = f"any of {n} runs" if n > 1 else "the one run"
        return [f"Do not trust it: the rule found nothing in {where}{reason}."]
    clauses = [*[flaw] * _is_flawed(summary, flaw), *unvaried]
    if n >= ENOUGH_RUNS and not clauses and summary.abstained > ABSTAINS_TOO_OFTEN * n:
        clauses = [f"the rule found nothing in {summary.abstained} of {n} runs{reason}"]
    return [f"Do not trust it: {clause}." for clause in clauses]


def _is_flawed(summary: Summary, flaw: str) -> bool:
    """Whether what is wrong with the mean loss is wrong with most single runs, too."""
    return bool(flaw) and sum(summary.cautions.get(f, 0) for f in FLAWS) > summary.runs / 2


def verdict(
    summary: Summary,
    trials: Sequence[Trial] = (),
    flaw: str = "",
    unvaried: Sequence[str] = (),
) -> list[str]:
    """How far to trust a rule's suggestions, by the rules above: the verdict and its reasons.

    ``flaw``: what is wrong with the runs' median loss, if anything, which counts where most single
    runs have one, too; ``unvaried``: what was to vary from run to run and did not, a clause each.
    """
    n, flawed = summary.runs, _is_flawed(summary, flaw)
    cautions = [
        f"In {k} of {n} runs {caution}." + " Over all runs it fell." * (caution == NEVER_FELL)
        for caution, k in summary.cautions.items()
        if not (flawed and caution in FLAWS)
    ]
    found = doubts(summary, flaw, unvaried)
    if not summary.values:
        return [*found, *cautions]
    agreement = (
        f"{100 * USUAL_SHARE:.0f} % of the suggestions lie within a factor of "
        f"{summary.factor:.2g} of their median, {summary.median:.2g}; the highest is "
        f"{10**summary.spread:.2g} times the lowest."
    )
    against, tried = tried_out(summary, trials)
    reasons = [agreement, *tried, *cautions]
    if found:
        return [*found, *reasons]
    if n < ENOUGH_RUNS:
        return [f"Too few runs to say: {n}; a verdict needs {ENOUGH_RUNS}.", *reasons]
    factor = max(summary.factor, 1.1)
    if summary.factor > LOOSE:
        found = (
            f"Do not trust it: one run's suggestion may be {factor:.0f} times too high or too low."
        )
    elif against and not any(recommend(summary, trials, t.schedule).lr for t in trials):
        found = "Do not trust it: trained at it, most runs fail."
    elif against:
        found = (
            "Trust the short trainings, not the rule: its suggestions repeat to within a factor "
            f"of {factor:.2g}, but another rate trained better."
        )
    else:
        found = "The suggestion is repeatable"
        if summary.factor > CLOSE:
            found = "Only the order of magnitude is repeatable"
        if summary.abstained:
            found += f", where the rule answers (not in {summary.abstained} of {n} runs)"
        found += f": {reasons.pop(0)}"
    if not trials:
        reasons.append(
            "This is how well the rule repeats, not how well its rate trains: train_steps=100 "
            "(--train-steps 100) checks that by short trainings."
        )
    return [found, *reasons]


def tried_out(summary: Summary, trials: Sequence[Trial]) -> tuple[bool, list[str]]:
    """Whether short trainings speak against the suggestion; what else they say of it."""
    against, sentences = False, []
    for schedule, words in SCHEDULES.items():
        at = losses_by_factor(trials, schedule)[1.0]
        failed = int((~np.isfinite(at)).sum())
        if failed:
            sentences.append(
                f"Trained at the suggestion with {words}, at the end the loss was not finite in "
                f"{failed} of {len(at)} runs."
            )
        against |= recommend(summary, trials, schedule).factor != 1 or failed > len(at) / 2
    if trials and not any(trial.lowered for trial in trials):
        sentences.append(
            "No short training lowered the loss clearly, so they say nothing about the rate."
        )
    return against, sentences


def clearly_lower(loss: Any, other: Any) -> Any:
    return loss < other - (1 - CLEARLY_LOWER) * np.abs(other)


def plain(value: Any) -> Any:
    """As JSON takes it: numbers that are not finite as text, tuples as lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
