"""Accuracy over the learning rate, from trainings whose curve is known."""

import numpy as np
import pandas as pd

from lrrt.analysis.accuracy import accuracy_over_rate, local_linear

CASE = {"backend": "torch", "protocol": "p"}


def study(noise: float = 0.0):
    """Best at 0.1 (0.8), 0.2 lost a decade; five sets of weights, one of which diverges at 10."""
    rows = []
    for seed in range(5):
        for lr in np.geomspace(1e-3, 10, 17):
            accuracy = 0.8 - 0.2 * abs(np.log10(lr) + 1)
            diverges = seed == 4 and lr > 9
            rows.append(
                CASE
                | {"policy": "constant", "weights_from": "", "run": f"{seed} {lr}", "lr": lr}
                | {"outcome": "diverged" if diverges else "trains", "weights_seed": seed}
                | {"final_val_accuracy": np.nan if diverges else accuracy + noise * (seed - 2)}
            )
    given = {"high": (np.nan, 10.0), "range": (0.01, 1.0), "shy": (np.nan, np.nan)}
    drawn = [
        CASE | {"sweep": "weights", "rule": rule, "min_lr": low, "max_lr": high}
        for rule, (low, high) in given.items()
        for _ in range(3)
    ]
    return pd.DataFrame(rows), pd.DataFrame(drawn)


def test_regrets_are_those_of_the_curve_that_was_drawn():
    found = accuracy_over_rate(*study(), **CASE, resamples=50)
    assert np.isclose(found.best["lr"], 0.1, rtol=0.1)
    assert np.isclose(found.best["accuracy"], 0.8, atol=0.03)
    regret = found.suggested.set_index(["rule", "kind"])["regret"]
    assert np.isclose(regret["range", "middle"], 0, atol=0.01)
    assert np.isclose(regret["range", "min"], 0.2, atol=0.03)
    assert np.isclose(regret["high", "one"], 0.4, atol=0.06)
    (shy,) = found.suggested[found.suggested["rule"] == "shy"].itertuples()
    assert (shy.n, shy.abstained) == (0, 3) and np.isnan(shy.regret)


def test_the_interval_is_over_weights():
    steady = accuracy_over_rate(*study(), **CASE, resamples=200).curve
    noisy = accuracy_over_rate(*study(noise=0.05), **CASE, resamples=200).curve
    middle = len(steady) // 2
    assert steady["high"][middle] - steady["low"][middle] < 1e-9
    # Means of five of -0.1, -0.05, 0, 0.05, 0.1: standard deviation 0.032, so about 0.12 wide.
    assert 0.08 < noisy["high"][middle] - noisy["low"][middle] < 0.15


def test_a_straight_line_comes_out_straight():
    x = np.random.default_rng(0).uniform(-3, 0, 40)
    at = np.linspace(-2.5, -0.5, 9)
    assert np.allclose(local_linear(x, 2 * x + 1, at), 2 * at + 1)
    assert np.allclose(local_linear(x, 2 * x + 1, at, np.full((3, 40), 2.0)), 2 * at + 1)
