"""Our own rule and the pooling of range tests, on curves whose edge is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lrrt
from lrrt.analysis import regret
from lrrt.analysis.candidate_rates import candidate_rates
from lrrt.core import edge
from lrrt.core.rules import replay

STEPS = 100
LR = np.geomspace(1e-7, 10, STEPS)
STEP = 8 / (STEPS - 1)  # decades


def valley(lr=LR, falls=(-4, -2), rises=(-1, 0), depth=1.0, level=3.0, noise=0.0, seed=0):
    """Falls by ``depth`` linearly in log LR between ``falls``, is back between ``rises``."""
    x = np.log10(lr)
    fallen = np.clip((x - falls[0]) / (falls[1] - falls[0]), 0, 1)
    risen = np.clip((x - rises[0]) / (rises[1] - rises[0]), 0, None)
    random = np.random.default_rng(seed)
    return level - depth * fallen + depth * risen + noise * random.standard_normal(len(lr))


def curve_of(lr, loss):
    return lrrt.Curve(lr, loss, np.zeros(len(lr)), np.zeros(len(lr)))


def test_the_edge_of_a_curve_without_noise():
    """Nine tenths of the fall are made at -2.2; the cap at the start lets no rise pass it, so the
    average, which reaches 0.4 decades, is back where all of it is: 0.4 decades after 0."""
    found = edge.pooled([(LR, valley())])
    middle = np.log10(found.edge_lr) + edge.LAG * STEP
    assert middle == pytest.approx((-2.2 + 0.4) / 2, abs=0.1)
    assert found.lr == found.edge_lr / 6 and found.tests == 1
    assert (found.low, found.high) == (found.lr / 3.5, found.lr * 9)
    cycle = edge.pooled([(LR, valley())], "one_cycle")
    assert cycle.edge_lr == found.edge_lr and cycle.lr == cycle.edge_lr / 3
    assert (cycle.low, cycle.high) == (cycle.lr / 3, cycle.lr * 7)


def test_it_knows_neither_the_losss_level_nor_its_sign_nor_its_unit():
    loss = valley(noise=0.05)
    lr = replay("edge", LR, loss).max_lr
    for other in (loss - 100, loss - 3, loss + 1000, 1e6 * loss):
        assert replay("edge", LR, other).max_lr == pytest.approx(lr, rel=1e-6)


def test_how_high_it_explodes_says_nothing():
    loss = valley(noise=0.05)
    lr = replay("edge", LR, loss).max_lr
    for value in (50.0, 1e30, np.inf, np.nan):
        exploded = np.where(LR > 2, value, loss)
        assert replay("edge", LR, exploded).max_lr == pytest.approx(lr, rel=1e-9)


def test_it_shifts_with_the_curve_and_corrects_for_the_ramps_speed():
    lr = replay("edge", LR, valley()).max_lr
    moved = replay("edge", LR, valley(falls=(-5, -3), rises=(-2, -1))).max_lr
    assert moved == pytest.approx(lr / 10, rel=0.05)
    slow = np.geomspace(1e-7, 10, 400)
    late = replay("edge", slow, valley(slow)).max_lr
    assert late == pytest.approx(lr * 10 ** (5 * (STEP - 8 / 399)), rel=0.1)


def test_pooling_is_more_precise_than_one_test():
    noisy = [valley(noise=0.6, seed=seed) for seed in range(60)]
    one = [edge.pooled([(LR, loss)]).lr for loss in noisy]
    threes = [edge.pooled([(LR, loss) for loss in noisy[i : i + 3]]).lr for i in range(0, 60, 3)]
    spread = [np.std(np.log10([lr for lr in found if lr])) for found in (one, threes)]
    assert spread[1] < 0.75 * spread[0]
    assert sum(lr is None for lr in threes) <= sum(lr is None for lr in one)


def test_ramps_may_differ_and_so_may_levels():
    slow = np.geomspace(1e-5, 1e2, 150)
    curves = [(LR, valley(noise=0.02)), (slow, valley(slow, level=-7, noise=0.02))]
    alone = [edge.pooled([curve]).lr for curve in curves]
    together = edge.pooled(curves)
    assert min(alone) * 0.9 < together.lr < max(alone) * 1.1 and together.tests == 2
    assert edge.pooled(curves[::-1]).lr == pytest.approx(together.lr, rel=1e-9)


@pytest.mark.parametrize(
    ("lr", "loss", "reason"),
    [
        (LR, np.full(STEPS, 2.3), edge.NEVER_FELL),
        (LR, valley(depth=0.0, noise=0.3), edge.NEVER_FELL),
        (LR, valley(rises=(2, 3)), edge.STILL_FALLING),
        (LR, np.full(STEPS, np.nan), edge.TOO_FEW),
        (LR[:6], valley()[:6], edge.TOO_FEW),
        (LR[::-1], valley(), edge.NO_RATES),
    ],
)
def test_it_abstains_with_a_reason(lr, loss, reason):
    found = edge.pooled([(lr, loss)])
    assert (found.lr, found.low, found.high, found.edge_lr) == (None,) * 4
    assert found.reason == reason and reason in str(found)
    assert replay("edge", lr, loss).reason == reason


def test_a_coarse_ramp_is_read_with_a_caution():
    narrow = valley(rises=(-1.5, -0.5))
    coarse = lrrt.pool(curve_of(LR[::2], narrow[::2]))
    assert coarse.lr and coarse.caution == edge.TOO_COARSE and edge.TOO_COARSE in str(coarse)
    assert curve_of(LR[::2], narrow[::2]).suggest("edge").cautions == (edge.TOO_COARSE,)
    fine = lrrt.pool(curve_of(LR, narrow))
    assert fine.caution == "" and curve_of(LR, narrow).suggest("edge").cautions == ()


def test_an_edge_between_two_rates_far_apart_is_a_guess():
    """The loss has fallen at 1e-4 and is back at 1: nothing in between says where it turns."""
    wide, narrow = valley(falls=(-5, -4)), valley(rises=(-1.5, -0.5))
    assert edge.edge([(LR, wide)]).width > edge.WIDE > edge.edge([(LR, narrow)]).width
    assert edge.pooled([(LR, wide)] * 3).caution == edge.UNCERTAIN
    assert curve_of(LR, wide).suggest("edge").cautions == (edge.UNCERTAIN,)
    both = lrrt.pool(curve_of(LR[::2], wide[::2])).caution
    assert both == f"{edge.UNCERTAIN}; {edge.TOO_COARSE}"


def test_running_sums_give_the_plain_average():
    random = np.random.default_rng(0)
    x, y = np.sort(random.uniform(-7, 1, 300)), random.standard_normal(300)
    at = np.linspace(-7, 1, 37)
    weights = np.clip(1 - np.abs(x - at[:, None]) / edge.WIDTH, 0, None)
    plain = (weights * y).sum(axis=1) / weights.sum(axis=1)
    np.testing.assert_allclose(edge.local_means(x, y, at), plain, rtol=1e-9, atol=1e-12)


def test_curves_of_the_library_are_pooled():
    def curve(seed):
        return curve_of(LR, valley(noise=0.05, seed=seed))

    found = lrrt.pool([curve(seed) for seed in range(3)])
    assert isinstance(found, lrrt.Pooled) and found.tests == 3
    assert str(found).endswith("] from 3 range tests")
    assert lrrt.pool(curve(0)).lr == curve(0).suggest("edge").lr
    with pytest.raises(lrrt.InputError, match="schedule: expected one of: constant, one_cycle"):
        lrrt.pool(curve(0), "cosine")
    with pytest.raises(lrrt.InputError, match="curves: expected one range test or more"):
        lrrt.pool([])
    with pytest.raises(lrrt.InputError, match="curves: expected curves of lrrt.range_test"):
        lrrt.pool([1.0])


def test_the_rates_that_are_scored():
    """For both schedules, alone and three as one; where it abstains there is no rate."""
    parts = [
        pd.DataFrame({"step": range(STEPS), "lr": LR, "loss": loss}).assign(draw=draw, setting=name)
        for name, losses in (
            ("falls", [valley(noise=0.1, seed=seed) for seed in range(7)]),
            ("flat", [np.full(STEPS, 2.3)] * 3),
        )
        for draw, loss in enumerate(losses)
    ]
    curves = pd.concat(parts).assign(optimizer="sgd", ramp_steps=STEPS)
    found = candidate_rates(curves).set_index(["setting", "rule"])["lr"]
    of = {rule: found["falls", rule].to_numpy() for rule in found["falls"].index.unique()}
    np.testing.assert_allclose(of["edge.one_cycle"], 2 * of["edge"])
    np.testing.assert_allclose(of["edge.pooled.one_cycle"], 2 * of["edge.pooled"])
    assert len(of["edge"]) == 7 and len(of["edge.pooled"]) == 2  # the seventh is left over
    three = [(LR, valley(noise=0.1, seed=seed)) for seed in range(3)]
    assert of["edge.pooled"][0] == edge.pooled(three).lr
    assert found["flat"].filter(like="edge").isna().all()


@pytest.mark.parametrize("schedule", edge.MARGIN)
def test_the_margins_are_those_that_lose_least_where_they_were_chosen(schedule):
    """On ``ground_truth/development.py``'s settings half and twice of each lose clearly more."""
    results = Path(__file__).parents[1] / "ground_truth" / "results"
    trainings = pd.read_parquet(results / "development-trainings.parquet")
    curves = pd.read_parquet(results / "development-curves.parquet")
    grids = regret.grids(trainings, "accuracy")
    lost = []
    for (setting, optimizer, _), test in curves[curves["ramp_steps"] == 100].groupby(
        ["setting", "optimizer", "draw"]
    ):
        found = edge.edge([(test["lr"].to_numpy(), test["loss"].to_numpy())])
        lrs = [regret.FIXED[optimizer][0]] * 3  # where it abstains
        if isinstance(found, edge.Edge):
            lrs = [found.lr / edge.MARGIN[schedule] * factor for factor in (0.5, 1, 2)]
        lost.append((setting, *grids[setting, schedule].regret(np.array(lrs)).mean(axis=0)))
    low, own, high = 100 * pd.DataFrame(lost).groupby(0).mean().mean()
    assert curves["setting"].nunique() == 22
    assert own < {"constant": 0.5, "one_cycle": 1.5}[schedule]
    assert low > own + 0.5 and high > own + 0.5
