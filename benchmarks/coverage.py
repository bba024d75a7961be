"""How often the intervals of the crossed design hold the truth, by simulation.

    python benchmarks/coverage.py [DESIGNS]

Writes ``benchmarks/results/coverage.json``: by shape (sets of weights, batch orders) and
distribution of effects, the share of simulated designs whose interval of the weights' share of the
variance (:func:`lrrt.analysis.crossed.weights_share`) holds the true share, with all degrees of
freedom and with half of them, and how often the permutation test gives p < 0.05. In ``mixture``
max LR has two modes, as with the Keras protocol: 15 % of the sets of weights are always low, 10 %
in 60 % of their runs, the others in 3 % (by eye; the truth below is exact for it). In ``none`` the
weights have no effect, so that the test should reject 5 %.
"""

import json
import sys
from pathlib import Path

import numpy as np

from lrrt.analysis import crossed

RESULT = Path(__file__).parent / "results" / "coverage.json"
SHAPES = ((6, 6), (5, 10), (14, 6))
MODES = np.array([1.0, 0.6, 0.03])  # how often a set of weights is in the low mode
MIX = np.array([0.15, 0.10, 0.75])  # share of such sets
APART, NOISE = 1.31, 0.25  # decades between the modes, and within one
SPREADS = {"normal": (1.0, 0.2, 0.8), "heavy tails": (1.0, 0.2, 0.8), "weak": (0.4, 0.2, 0.8)}


def mixture(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    often = random.choice(MODES, p=MIX, size=(rows, 1))
    low = random.random((rows, columns)) < often
    return -APART * low + random.normal(0, NOISE, (rows, columns))


def additive(kind: str, random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    def draw(*shape: int) -> np.ndarray:
        if kind == "heavy tails":  # Student's t with three degrees of freedom, of variance 1
            return random.standard_t(3, shape) / np.sqrt(3)
        return random.normal(size=shape)

    weights, orders, rest = SPREADS.get(kind, (0.0, 0.2, 0.8))
    return weights * draw(rows, 1) + orders * draw(1, columns) + rest * draw(rows, columns)


def truth(kind: str) -> float:
    """The weights' share of the variance."""
    if kind == "mixture":
        mean = float(MIX @ MODES)
        between = APART**2 * float(MIX @ (MODES - mean) ** 2)
        within = APART**2 * float(MIX @ (MODES * (1 - MODES))) + NOISE**2
        return between / (between + within)
    weights, orders, rest = SPREADS.get(kind, (0.0, 0.2, 0.8))
    return weights**2 / (weights**2 + orders**2 + rest**2)


def simulate(kind: str, rows: int, columns: int, designs: int) -> dict[str, float]:
    random = np.random.default_rng(0)
    true, held, rejected = truth(kind), {1: 0, crossed.CAUTION: 0}, 0
    for _ in range(designs):
        values = (
            mixture(random, rows, columns)
            if kind == "mixture"
            else additive(kind, random, rows, columns)
        )
        for caution in held:
            low, high = crossed.weights_share(values, caution)
            held[caution] += low <= true <= high
        rejected += crossed.weights_test(values).p < 0.05
    return {
        "truth": round(true, 4),
        "covered_by_all_degrees_of_freedom": held[1] / designs,
        "covered_by_half": held[crossed.CAUTION] / designs,
        "rejected": rejected / designs,
    }


def main(designs: int) -> None:
    crossed.PERMUTATIONS, crossed.DRAWS = 499, 1000
    found = {"designs": designs}
    for shape in SHAPES:
        for kind in ("mixture", "normal", "heavy tails", "weak", "none"):
            name = f"{shape[0]} x {shape[1]}, {kind}"
            found[name] = simulate(kind, *shape, designs)
            print(name, found[name], flush=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
