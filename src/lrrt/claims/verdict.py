"""What a claim comes to: a grade, its effects with intervals, and how far they can be relied on."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from lrrt.analysis.statistics import share_interval
from lrrt.claims import margins


class Grade(StrEnum):
    """In the order in which findings are listed: what is news first."""

    CONTRADICTED = "contradicted"
    MIXED = "mixed"
    SUPPORTED = "supported"
    PARTLY = "partly"
    NO_EFFECT = "no effect above the margin"
    BY_DEFINITION = "by definition"
    OPEN = "open"
    NOT_RUN = "not run"


UNDECIDED = (Grade.OPEN, Grade.NOT_RUN)
MANY = 1000  # units: more than these are not worth counting
POWER = 0.8  # of the tests that further units are counted for


class Scale(NamedTuple):
    """The network (depth 0: it has none) and batch size that a result is of."""

    network: str
    depth: int
    batch_size: int


@dataclass(frozen=True)
class Effect:
    """An estimate with its 95 % interval, both in ``unit``; NaN ends where there is none.

    ``unit``: ``decades``, ``accuracy`` (a fraction, shown in points), ``factor``, ``share`` (a
    fraction, shown in percent) or ``change`` (of a share, shown in percent with its sign).
    ``none``: the value of no effect. ``smallest``: the distance from ``none`` that matters (for a
    factor: the factor). ``p``: two-sided, of ``none``. ``p_equivalence``: of an effect as large as
    ``smallest`` (two one-sided tests). ``error``: the standard error, where the interval has one.
    """

    quantity: str
    value: float
    low: float
    high: float
    unit: str
    smallest: float
    none: float = 0.0
    p: float = math.nan
    p_equivalence: float = math.nan
    error: float = math.nan


@dataclass(frozen=True)
class Result:
    """What one part of a claim comes to at one scale.

    ``part``: what of the claim it speaks of (a protocol, a policy, an outcome). ``scales``: of one
    study or, pooled, of several. ``units``: independent sets of weights. ``robust``: whether the
    grade stays with any one set of weights left out: ``yes``; ``fragile``: without some one it is
    another grade; ``no``: the opposite one; empty where nothing was decided. ``finding``: a
    sentence with fields, filled in by :func:`lrrt.report.wording.finding` from ``effect`` and
    ``numbers``. ``missing``: the runs that would decide it.
    """

    part: str
    scales: tuple[Scale, ...]
    grade: Grade
    finding: str
    effect: Effect | None = None
    units: int = 0
    runs: int = 0
    robust: str = ""
    missing: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_decided(self) -> bool:
        return self.grade not in UNDECIDED


@dataclass(frozen=True)
class Verdict:
    """A claim's grade, the part that it names, and its results; the first carries the headline.

    ``sentence``: like :attr:`Result.finding`, of the first result's numbers.
    """

    grade: Grade
    results: tuple[Result, ...]
    sentence: str
    about: str = ""
    missing: str = ""

    @property
    def main(self) -> Result | None:
        return self.results[0] if self.results else None

    @property
    def p(self) -> float:
        """Of the main result's test, of equivalence where that is what was shown; NaN without."""
        effect = self.main.effect if self.main else None
        if effect is None:
            return math.nan
        return effect.p_equivalence if self.main.grade is Grade.NO_EFFECT else effect.p


Assessed = tuple[Effect, Grade]


def with_grade(effect: Effect, sign: int = 1) -> Assessed:
    """The effect with its grade by :func:`by_interval`."""
    return effect, by_interval(effect, sign)


def by_interval(effect: Effect, sign: int = 1) -> Grade:
    """``supported`` if the interval lies beyond no effect on the claimed side (``sign``) and the
    estimate is as large as matters, ``partly`` if smaller, ``contradicted`` if it lies on the other
    side; ``no effect above the margin`` by two one-sided tests; ``open`` otherwise."""
    position, smallest = (np.log if effect.unit == "factor" else float), effect.smallest
    value, low, high = (
        sign * (position(v) - position(effect.none))
        for v in (effect.value, effect.low, effect.high)
    )
    low, high = min(low, high), max(low, high)
    if low > 0:
        return Grade.SUPPORTED if value >= position(smallest) else Grade.PARTLY
    if high < 0:
        return Grade.CONTRADICTED
    return Grade.NO_EFFECT if effect.p_equivalence < margins.SIGNIFICANCE else Grade.OPEN


OPPOSITE = {Grade.SUPPORTED: Grade.CONTRADICTED, Grade.CONTRADICTED: Grade.SUPPORTED}


def judge(
    part: str,
    scales: Iterable[Scale],
    finding: str,
    units: Mapping[Hashable, Any],
    assess: Callable[[list], Assessed],
    *,
    runs: int,
    missing: str = "",
    **numbers: Any,
) -> Result:
    """Grade an estimate, and see whether the grade hangs on one set of weights.

    Parameters
    ----------
    units : mapping
        By independent unit (a set of weights, or a cluster that shares some), its data.
    assess : callable
        From the list of such data to an effect and its grade; called again with each unit left out.
    missing : str
        What would decide an open result; ``{n}`` is the number of further units for :data:`POWER`.
    """
    whole = list(units.values())
    effect, found = assess(whole)
    robust = ""
    if found not in UNDECIDED:
        others = [assess(whole[:i] + whole[i + 1 :])[1] for i in range(len(whole))]
        robust = "yes" if all(other is found for other in others) else "fragile"
        if OPPOSITE.get(found) in others:
            robust = "no"
    return Result(
        part,
        tuple(scales),
        found,
        finding,
        effect,
        len(whole),
        runs,
        robust,
        missing.format(n=_more(effect, whole)) if found in UNDECIDED else "",
        numbers,
    )


def _more(effect: Effect, units: list) -> str:
    """How many further units would decide, in words."""
    needed = None
    if units and all(isinstance(unit, bool | np.bool_) for unit in units):
        needed = share_to_decide(effect.value, effect.none, len(units))
    elif len(units) > 1 and all(isinstance(unit, float) for unit in units):
        needed = runs_to_decide(effect, float(np.std(units, ddof=1)))
    if needed is None:
        return "more"
    return f"{max(needed - len(units), 1):,} more" if needed <= MANY else f"over {MANY:,} more"


def mean_effect(values: Sequence[float], quantity: str) -> Effect:
    """The mean of independent accuracies against 0: Student's t, and two one-sided t tests."""
    values = np.asarray(values, dtype=np.float64)
    n, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    error = float(stats.sem(values)) if n > 1 else math.nan
    return t_effect(quantity, mean, error, n - 1, "accuracy", margins.ACCURACY)


def t_effect(
    quantity: str, value: float, error: float, freedom: float, unit: str, smallest: float
) -> Effect:
    """An estimate with its standard error, by Student's t."""
    if not (error > 0 and freedom > 0):
        return Effect(quantity, value, math.nan, math.nan, unit, smallest)
    half = error * stats.t.ppf((1 + margins.CONFIDENCE) / 2, freedom)
    p = 2 * stats.t.sf(abs(value) / error, freedom)
    inside = stats.t.sf((smallest - abs(value)) / error, freedom)
    return Effect(
        quantity,
        value,
        value - half,
        value + half,
        unit,
        smallest,
        p=float(p),
        p_equivalence=float(inside),
        error=error,
    )


def share_effect(hits: Sequence[bool], quantity: str, none: float = margins.SHARE) -> Effect:
    """A share against ``none``: Clopper and Pearson's interval, exact two-sided test."""
    count, total = int(np.sum(hits)), len(hits)
    low, high = share_interval(count, total) or (math.nan, math.nan)
    value = count / total if total else math.nan
    p = stats.binomtest(count, total, none).pvalue if total else math.nan
    return Effect(quantity, value, low, high, "share", 0.0, none, float(p))


def runs_to_decide(effect: Effect, spread: float) -> int | None:
    """Independent units for :data:`POWER` if the true effect is the estimate, or the smallest that
    matters where that is larger; normal approximation. ``spread``: the standard deviation of a
    unit."""
    size = max(abs(effect.value), effect.smallest)
    if not (math.isfinite(spread) and size > 0):
        return None
    quantiles = stats.norm.ppf((1 + margins.CONFIDENCE) / 2) + stats.norm.ppf(POWER)
    return max(2, math.ceil((quantiles * spread / size) ** 2))


def share_to_decide(share: float, none: float, at_least: int) -> int | None:
    """Runs for :data:`POWER` of the exact two-sided test if the true share is the estimate; None
    for one that equals ``none``, one more than :data:`MANY` if those are not enough."""
    if not 0 <= share <= 1 or share == none:
        return None
    for total in range(max(at_least, 2), MANY + 1):
        counts = np.arange(total + 1)
        below, above = stats.binom.cdf(counts, total, none), stats.binom.sf(counts - 1, total, none)
        decisive = np.minimum(below, above) <= (1 - margins.CONFIDENCE) / 2
        if stats.binom.pmf(counts, total, share)[decisive].sum() >= POWER:
            return total
    return MANY + 1


def combine(results: Iterable[Result], sentence: str, about: str = "") -> Verdict:
    """The grade that all decided results share; the first one's where they differ in strength only;
    ``mixed`` where they differ in more."""
    results = tuple(results)
    grades = {result.grade for result in results if result.is_decided}
    if len(grades) == 1:
        (grade,) = grades
    elif grades == {Grade.SUPPORTED, Grade.PARTLY}:
        grade = next(result.grade for result in results if result.is_decided)
    else:
        grade = Grade.MIXED if grades else Grade.OPEN
    missing = next((r.missing for r in results if not r.is_decided), "")
    alone = len(grades) == 1 and all(result.is_decided for result in results)
    return Verdict(
        grade, results, sentence, "" if alone else about, missing if grade in UNDECIDED else ""
    )


def not_run(missing: str) -> Verdict:
    """For a study without the runs that a claim needs."""
    return Verdict(Grade.NOT_RUN, (), "", missing=missing)


def holm(ps: Mapping[Hashable, float]) -> set[Hashable]:
    """Which hypotheses Holm's step-down rejects, all tests together at margins.SIGNIFICANCE."""
    rejected: set[Hashable] = set()
    for rank, (key, p) in enumerate(sorted(ps.items(), key=lambda item: item[1])):
        if not p <= margins.SIGNIFICANCE / (len(ps) - rank):
            break
        rejected.add(key)
    return rejected
