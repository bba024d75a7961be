"""How often a curve's flaw is a false alarm, or missed: simulated, ``python -m reliability.flaws``.

A flat loss with noise must be called flawed; one that falls and explodes must not. Noise is drawn
from a normal distribution, from ones with heavy tails (Laplace; Student's t with 3 and 2 degrees
of freedom), and with spikes (3 % of the steps, and always the first, 30 times as large). Its scale
is the standard deviation of a normal distribution with the same quartiles. Prints a table of error
rates in percent with 95 % intervals, and exits with status 1 if one is above 2 %.
"""

import sys
from collections.abc import Callable

import numpy as np
from scipy import stats

from lrrt.finder.curve import flaw_of

CURVES = 4000
ALLOWED = 0.02
STEPS = (30, 50, 100, 200)
FALLS = (8.0, 20.0)  # in scales of the noise
Draw = Callable[[np.random.Generator, int], np.ndarray]


def scaled(distribution: stats.rv_continuous) -> Draw:
    """Draws of a distribution, its quartiles those of the standard normal one."""
    scale = stats.norm.ppf(0.75) / distribution.ppf(0.75)
    return lambda random, n: scale * distribution.rvs(size=n, random_state=random)


def spiked(random: np.random.Generator, n: int) -> np.ndarray:
    noise = random.standard_normal(n)
    spikes = random.random(n) < 0.03
    spikes[0] = True
    return noise + 30 * spikes


NOISES: dict[str, Draw] = {
    "normal": scaled(stats.norm),
    "Laplace": scaled(stats.laplace),
    "t, 3 degrees": scaled(stats.t(3)),
    "t, 2 degrees": scaled(stats.t(2)),
    "spikes": spiked,
}


def healthy(steps: int, fall: float) -> np.ndarray:
    """A plateau, a descent by ``fall`` about LR 0.02, an explosion from 1 on."""
    x = np.linspace(-7, 1, steps)
    return fall * (
        1.5 - 1 / (1 + np.exp(-2.5 * (x + 1.7))) + np.exp(np.clip(9 * (x - 0.1), -50, 6))
    )


def error_rate(shape: np.ndarray, draw: Draw, is_flawed: bool, seed: int) -> float:
    """Share of :data:`CURVES` of this shape that are judged wrongly."""
    random = np.random.default_rng(seed)
    losses = (shape + draw(random, len(shape)) for _ in range(CURVES))
    return sum(bool(flaw_of(loss, len(loss))) != is_flawed for loss in losses) / CURVES


def main() -> int:
    cases = [("flat", None), *((f"falls by {fall:g}", fall) for fall in FALLS)]
    worst = 0.0
    print("| steps | curve |", " | ".join(NOISES), "|")
    print("| --- | --- |" + " ---: |" * len(NOISES))
    for steps in STEPS:
        for name, fall in cases:
            shape = np.zeros(steps) if fall is None else healthy(steps, fall)
            rates = [
                error_rate(shape, draw, fall is None, i) for i, draw in enumerate(NOISES.values())
            ]
            worst = max(worst, *rates)
            print(f"| {steps} | {name} |", " | ".join(map(_percent, rates)), "|", flush=True)
    print(f"\n{CURVES} curves a cell; the worst rate is {100 * worst:.1f} %.")
    return int(worst > ALLOWED)


def _percent(rate: float) -> str:
    low, high = stats.binomtest(round(rate * CURVES), CURVES).proportion_ci(method="exact")
    return f"{100 * rate:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
