"""Scores over grids of trainings whose best rate and regrets are known."""

import numpy as np
import pandas as pd
import pytest

from lrrt.analysis import regret
from lrrt.analysis.regret import Grid

QUARTERS = np.arange(-12, 5) / 4  # decades: 1e-3 to 10


def grid(best=-1.0, cliff=np.inf, noise=0.0, seeds=5, random=0):
    """0.9 at ``best``, 0.1 lost a decade squared; 0.1 from ``cliff`` decades on."""
    values = 0.9 - 0.1 * (QUARTERS - best) ** 2 + np.zeros((seeds, 1))
    values += noise * np.random.default_rng(random).standard_normal(values.shape)
    values[:, QUARTERS >= cliff] = 0.1
    return Grid(10**QUARTERS, values, 0.1)


def test_the_optimum_lies_between_the_trained_rates():
    found = grid(best=-0.9).best
    assert found.is_smoothed
    assert np.isclose(np.log10(found.lr), -0.9) and np.isclose(found.value, 0.9)


def test_a_cliff_beside_the_best_does_not_bend_the_parabola():
    found = grid(best=-0.5, cliff=0).best
    assert np.isclose(np.log10(found.lr), -0.5)
    steep = Grid(np.array([0.01, 0.1, 1.0]), np.array([[0.2, 0.9, 0.1]]), 0.1).best
    assert not steep.is_smoothed and steep.lr == 0.1


def test_the_optimum_keeps_off_a_rate_at_which_one_seed_collapses():
    """On a plateau that ends in a cliff the best mean is at any rate of it."""
    values = np.full((4, len(QUARTERS)), 0.97) + 0.001 * QUARTERS
    values[:, QUARTERS > 0] = 0.1
    values[2, QUARTERS == 0] = 0.1
    found = Grid(10**QUARTERS, values, 0.1)
    assert np.isclose(np.log10(found.best.lr), -0.25)
    _, at_best = found.held_out
    # Nor does the optimum of the others lie where the seed that is left out fails.
    assert (at_best > 0.96).all()


def test_regret_of_known_rates():
    lrs = np.array([0.1, 1.0, 0.01, 1e-5, 0.1 * 10**0.125])
    found = grid().regret(lrs).mean(axis=0)
    # Beyond the grid the last rate counts; half-way between two rates it is their mean.
    assert np.allclose(found, [0, 0.1, 0.1, 0.4, 0.1 * 0.25**2 / 2])


def test_cross_fitting_takes_the_luck_out_of_the_best():
    """The raw best of noisy means is too good; the cross-fitted one is not."""
    raw, fitted = [], []
    for random in range(300):
        noisy = grid(noise=0.03, seeds=4, random=random)
        raw.append(noisy.values.max(axis=1).mean() - 0.9)
        fitted.append(noisy.held_out[1].mean() - 0.9)
    assert np.mean(raw) > 0.02
    assert abs(np.mean(fitted)) < 0.004


def test_sparse_seeds_are_scored_but_do_not_tell_the_optimum():
    values = grid().values
    values[0, 1::2] = np.nan  # half decades only: three near the best
    values[1:, [0, 2, -1]] = np.nan
    seeds, at_best = Grid(10**QUARTERS, values, 0.1).held_out
    assert list(seeds) == [1, 2, 3, 4] and np.allclose(at_best, 0.9)


def test_a_best_at_the_end_is_cut_off():
    assert not grid().is_cut_off
    assert grid(best=1.2).is_cut_off and grid(best=-3.5).is_cut_off


@pytest.mark.parametrize(
    ("log_loss", "schedule", "expected"),
    [
        ([2.0, 1.0, 0.5, 0.4, 0.3], "constant", (0.7, 0.4)),
        ([2.0, 1.0, 0.5, 0.4, 0.3], "one_cycle", (0.9, 0.3)),
        ([2.0, 1.0, np.nan, np.nan, np.nan], "constant", (0.1, 2.3)),
        ([2.0, 1.0, 0.5, 1e9, 0.5], "constant", (0.7, 1.1)),  # 1e9 counts as 2.3
    ],
)
def test_training_score(log_loss, schedule, expected):
    accuracy = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    found = regret.training_score(accuracy, np.array(log_loss), schedule, 0.1, 2.3)
    assert np.allclose(found, expected)


def frames(settings=12, drop=()):
    """Settings whose best rate is 0.1 (0.9, lost 0.1 a decade squared), with three rules."""
    trainings, suggested = [], []
    for number in range(settings):
        setting, known = f"s{number}", grid()
        for seed, values in enumerate(known.values):
            for lr, value in zip(known.rates, values, strict=True):
                row = {"setting": setting, "schedule": "constant", "seed": seed, "lr": lr}
                row |= {"accuracy": value, "log_loss": 1 - value, "guess": 0.1, "untrained": 2.3}
                trainings.append(row)
        lrs = {"right": [0.1, 0.1], "high": [1.0, 1.0], "shy": [np.nan, 0.1]}
        lrs |= {"fixed.default": [0.1] * 2}
        for rule, drawn in lrs.items():
            for draw, lr in enumerate(drawn):
                row = {"setting": setting, "optimizer": "sgd", "rule": rule, "ramp_steps": 100}
                suggested.append(row | {"draw": draw, "lr": lr})
    return pd.DataFrame(trainings), pd.DataFrame(suggested)


def test_rules_are_ranked_by_what_they_lose():
    trainings, suggested = frames()
    table = regret.rule_table(regret.score_table(trainings, suggested), 100).set_index("rule")
    assert list(table.index)[-1] == "high"
    high = table.loc["high"]
    assert np.isclose(high.regret, 0.1) and np.isclose(high.against_default, 0.1)
    assert np.isclose(high.regret_90, 0.1) and high.coverage_90 == 1
    assert high.above == pytest.approx(1) and high.below == 0
    assert (high.within_2, high.within_5, high.settings) == (0, 0, 12)
    assert high.p < 0.001 and high.p_holm == pytest.approx(2 * high.p, abs=1e-3)
    # An abstention is scored at the fixed default, and counted.
    assert table.loc["shy"].abstained == 0.5 and np.isclose(table.loc["shy"].regret, 0)


def test_text_is_scored_by_log_loss_alone():
    trainings, suggested = frames(settings=3)
    scores = regret.score_table(trainings, suggested, by_log_loss={"s1"})
    assert scores.table.groupby("setting")["regret_accuracy"].count().to_dict() == {
        "s0": 8,
        "s1": 0,
        "s2": 8,
    }
    high = regret.rule_table(scores, 50).set_index("rule").loc["high"]
    assert (high.settings, high.text_settings) == (2, 1)
    assert np.isclose(high.share, 0.1 / (2.3 - 0.1))


def test_a_training_that_loses_more_than_half_has_collapsed():
    trainings, suggested = frames(settings=2)
    trainings.loc[trainings["lr"] >= 1, "accuracy"] = 0.1
    table = regret.rule_table(regret.score_table(trainings, suggested), 50).set_index("rule")
    assert table["collapse_rate"].to_dict() == {
        "right": 0,
        "fixed.default": 0,
        "shy": 0,
        "high": 1,
    }


def test_a_constant_is_learnt_from_the_other_settings():
    trainings, suggested = frames(settings=4)
    found = regret.times_constant(trainings, suggested, "constant").set_index("rule")
    assert np.allclose(found.loc["high x constant", "factor"], 0.1)
    assert np.allclose(found.loc["high x constant", "lr"], 0.1)
    # The odd one out: what it needs must not come from itself.
    suggested.loc[(suggested["setting"] == "s3") & (suggested["rule"] == "high"), "lr"] = 0.1
    found = regret.times_constant(trainings, suggested, "constant")
    odd = found[(found["setting"] == "s3") & (found["rule"] == "high x constant")]
    assert np.allclose(odd["factor"], 0.1) and np.allclose(odd["lr"], 0.01)


def test_the_interval_covers_the_mean_over_settings():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        of_settings = random.normal(0.05, 0.03, 20)
        noise = random.normal(0, 0.01, (20, 4, 6))
        low, high = regret.hierarchical_interval(list(of_settings[:, None, None] + noise), 200)
        covered += low <= 0.05 <= high
    assert 0.88 <= covered / 200 <= 0.98
    assert np.isnan(regret.hierarchical_interval([np.zeros((2, 2))], 10)).all()


def test_nine_new_settings_in_ten_stay_below_the_bound():
    random = np.random.default_rng(1)
    below = [
        random.exponential() <= regret.prediction_bound(random.exponential(size=21))
        for _ in range(3000)
    ]
    assert 0.89 <= np.mean(below) <= 0.95  # 20 of 22
    assert regret.prediction_bound(np.arange(8.0)) == np.inf
    assert regret.prediction_bound(np.arange(9.0)) == 8


def test_an_interval_from_other_settings_holds_four_of_five():
    """18 of 22 by the ranks: the second and the twentieth of 21."""
    random = np.random.default_rng(2)
    held = []
    for _ in range(2000):
        errors = [random.normal(size=1) for _ in range(21)]
        low, high = regret.interval_factors(errors)
        held.append(low <= random.normal() <= high)
    assert 0.79 <= np.mean(held) <= 0.85
    assert regret.interval_factors([np.array([float(i)]) for i in range(21)]) == (1, 19)
    # Six draws a setting weigh as much as one.
    assert regret.interval_factors([np.full(6, float(i)) for i in range(21)]) == (1, 19)
    assert regret.interval_factors([np.zeros(1)] * 8) == (-np.inf, np.inf)
    assert np.isnan(regret.interval_coverage([np.zeros(1)] * 9))
    alike = [random.normal(size=4) for _ in range(40)]
    assert 0.7 <= regret.interval_coverage(alike) <= 0.95


def test_holm_corrects_as_in_the_textbook():
    assert np.allclose(regret.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert regret.sign_flip_p(np.zeros(5)) == 1
    assert np.isclose(regret.sign_flip_p(np.ones(10)), 2 / 2**10)
