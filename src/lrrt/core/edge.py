"""Our own reading of range tests: the edge of instability, found without lag, and a margin below.

What it avoids, since the study found it to harm other rules: an average of the past alone, which
lags; a stop at a multiple of the best loss, which depends on the loss's level and sign; a single
noisy curve. Several tests are one: their losses are pooled before anything is read.

1. From each curve its own start is subtracted (the median of its first fifth). Losses above that by
   more than four standard deviations of the noise count as that high, so that an explosion's size
   says nothing; one that is not finite counts so, too.
2. The losses of all curves are averaged over log LR under a triangle that reaches 0.4 decades to
   either side.
3. The edge is the geometric middle of two rates: where nine tenths of the fall are made, and where
   past the lowest average the loss is back at its start (at the ramp's end, if it is not).
4. An instability takes some steps to show: the edge is moved back by five steps of the ramp.
5. The suggestion is a sixth of the edge for a constant rate, a third for one cycle's highest.

It abstains where the fall is no more than noise makes, and where nothing rises again. It answers
with a caution where the two rates of step 3 lie far apart (the loss fell early and then stood
still), and on a ramp of fewer than eight steps a decade, where an instability shows too late.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lrrt.errors import InputError

START = 5  # the median of one part in this many is a curve's start
CAP = 4.0  # standard deviations of the noise above the start
WIDTH = 0.4  # decades to either side
FALLEN = 0.9  # share of the fall: the lower of the two rates
RISEN = 0.1  # share of the fall: less is no rise at all
LAG = 5  # steps
#: What the edge is divided by.
MARGIN = {"constant": 6.0, "one_cycle": 3.0}
#: The 80 % interval for the best rate reaches from the suggestion over the first to the suggestion
#: times the second: errors of the other settings (``docs/ground_truth.md``, Changes).
INTERVAL = {"constant": (3.5, 9.0), "one_cycle": (3.0, 7.0)}
#: Decades between the edge's two rates; no setting that the rule was made on has more.
WIDE = 2.25
OF_NOISE = 4.0  # standard errors that a fall is more than
LEAST_STEPS = 10
LEAST_DENSITY = 8.0  # steps a decade

NO_RATES = "no learning rates that are positive, finite and rise"
TOO_FEW = f"too few finite losses: it needs {LEAST_STEPS} steps in all"
NEVER_FELL = (
    "the loss never fell by more than its noise: too few steps, a range that misses the useful "
    "rates, or nothing trains"
)
STILL_FALLING = "the loss was still falling at the end: the range ends too soon"
UNCERTAIN = (
    f"a factor of {10**WIDE:.0f} or more lies between the rates where the loss had fallen and "
    "where it rose again, so that the edge is a guess: try lower and higher rates"
)
TOO_COARSE = (
    f"the ramp has fewer than {LEAST_DENSITY:g} steps a decade: take more steps, or start it later"
)


@dataclass(frozen=True)
class Pooled:
    """What several range tests say together.

    ``lr``: to train at, None where they abstain, and ``reason`` says why. ``low``, ``high``: the
    80 % interval for the rate that trains best. ``edge_lr``: where the loss turns unstable.
    ``tests``: how many were pooled. ``caution``: what speaks against the rate, clauses joined by
    semicolons; empty if nothing does.
    """

    lr: float | None
    low: float | None = None
    high: float | None = None
    edge_lr: float | None = None
    tests: int = 1
    schedule: str = "constant"
    reason: str = ""
    caution: str = ""

    def __str__(self) -> str:
        of = f"{self.tests} range test{'s' if self.tests > 1 else ''}"
        if self.lr is None:
            return f"no suggestion from {of}; {self.reason}"
        words = f"{self.lr:.2g} [{self.low:.2g}, {self.high:.2g}] from {of}"
        return words + (f" ({self.caution})" if self.caution else "")


def pooled(curves: Sequence[tuple[np.ndarray, np.ndarray]], schedule: str = "constant") -> Pooled:
    """Read ``curves`` as one.

    Parameters
    ----------
    curves : sequence of (learning rates, losses)
        Raw, each of shape (steps,), of ramps that may differ; any loss may be infinite or NaN.
    schedule : {"constant", "one_cycle"}
        What will be trained with.

    Raises
    ------
    InputError
        For another schedule, or no curve.
    """
    if schedule not in MARGIN:
        raise InputError("schedule", schedule, f"one of: {', '.join(MARGIN)}")
    if not len(curves):
        raise InputError("curves", "none", "one range test or more")
    found = edge(curves)
    if isinstance(found, str):
        return Pooled(None, tests=len(curves), schedule=schedule, reason=found)
    lr = found.lr / MARGIN[schedule]
    below, above = INTERVAL[schedule]
    against = "; ".join(doubts(curves, found))
    return Pooled(lr, lr / below, lr * above, found.lr, len(curves), schedule, caution=against)


class Edge(NamedTuple):
    """``lr``: at which the loss turns unstable. ``width``: decades between its two rates."""

    lr: float
    width: float


def doubts(curves: Sequence[tuple[np.ndarray, np.ndarray]], found: Edge | str) -> list[str]:
    """What speaks against the edge that was found on ``curves``, a clause each."""
    if isinstance(found, str):
        return []
    densities = [(len(lr) - 1) / np.log10(lr[-1] / lr[0]) for lr, _ in curves]
    clauses = {UNCERTAIN: found.width > WIDE, TOO_COARSE: min(densities) < LEAST_DENSITY}
    return [clause for clause, holds in clauses.items() if holds]


@np.errstate(all="ignore")
def edge(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> Edge | str:
    """Where the loss turns unstable, or why that cannot be said."""
    decades, falls, noises = [], [], []
    for lr, loss in curves:
        lr, loss = np.asarray(lr, float), np.asarray(loss, float)
        if not (np.isfinite(lr).all() and (lr > 0).all() and (np.diff(lr) > 0).all()):
            return NO_RATES
        loss = np.where(np.isfinite(loss), loss, np.inf)
        start = np.median(loss[: max(3, len(loss) // START)])
        if not np.isfinite(start):
            continue
        bends = np.abs(np.diff(loss[: len(loss) // 2], 2))  # what a steady fall has none of
        noise = np.median(bends) / 0.6745 / np.sqrt(6) if len(bends) else 0.0  # of a normal
        decades.append(np.log10(lr))
        noises.append(noise if np.isfinite(noise) else 0.0)
        falls.append(np.minimum(loss - start, CAP * noises[-1]))
    if sum(map(len, decades)) < LEAST_STEPS:
        return TOO_FEW
    order = np.argsort(np.concatenate(decades), kind="stable")
    x, y = np.concatenate(decades)[order], np.concatenate(falls)[order]
    at = np.unique(x)
    level = local_means(x, y, at)
    lowest = int(level.argmin())
    weights = np.clip(1 - np.abs(x - at[lowest]) / WIDTH, 0, None)
    error = np.median(noises) * np.sqrt((weights**2).sum()) / weights.sum()
    fall = -level[lowest]
    if not fall > OF_NOISE * error:
        return NEVER_FELL
    if not (level[lowest:] > -(1 - RISEN) * fall).any():
        return STILL_FALLING
    low = _crossing(at[: lowest + 1], -level[: lowest + 1], FALLEN * fall)
    high = _crossing(at[lowest:], level[lowest:], 0.0)
    found = (low + high) / 2
    steps = [rates[_place(rates, found)] - rates[_place(rates, found) - 1] for rates in decades]
    return Edge(float(10 ** (found - LAG * np.mean(steps))), high - low)


def local_means(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Means of ``y`` over ``x`` (rising) around each of ``at``, under a triangle of ``WIDTH``.

    From running sums, so that a curve of ten thousand steps takes no time.
    """
    sums = np.concatenate([[0], np.cumsum(y)]), np.concatenate([[0], np.cumsum(x * y)])
    counts = np.arange(len(x) + 1.0), np.concatenate([[0], np.cumsum(x)])
    first, middle, last = (
        np.searchsorted(x, at + shift, side)
        for shift, side in ((-WIDTH, "left"), (0, "left"), (WIDTH, "right"))
    )

    def weigh(plain: np.ndarray, times_x: np.ndarray) -> np.ndarray:
        left = (1 - at / WIDTH) * (plain[middle] - plain[first])
        left += (times_x[middle] - times_x[first]) / WIDTH
        right = (1 + at / WIDTH) * (plain[last] - plain[middle])
        return left + right - (times_x[last] - times_x[middle]) / WIDTH

    return weigh(*sums) / weigh(*counts)


def _crossing(x: np.ndarray, y: np.ndarray, at_least: float) -> float:
    """Where ``y`` first reaches a value, linear between its points; the last of ``x`` if never."""
    reached = np.flatnonzero(y >= at_least)
    if not len(reached):
        return float(x[-1])
    after = int(reached[0])
    if after == 0:
        return float(x[0])
    share = (at_least - y[after - 1]) / (y[after] - y[after - 1])
    return float(x[after - 1] + share * (x[after] - x[after - 1]))


def _place(rates: np.ndarray, value: float) -> int:
    return int(np.clip(np.searchsorted(rates, value), 1, len(rates) - 1))
