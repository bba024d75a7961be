"""Components of variance of a crossed design, its runs, and seeds of augmentation."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
import synthetic_study

from lrrt.core.batches import BatchPlan
from lrrt.core.networks import resnet
from lrrt.core.protocol import Protocol
from lrrt.core.rules import Suggestion, abstain
from lrrt.errors import InputError
from lrrt.experiments.sweep.design import sweep_specs
from lrrt.experiments.variance import tables as variance_tables
from lrrt.experiments.variance.design import design_points
from lrrt.experiments.variance.tables import (
    COMPONENT_TYPES,
    RUN_TYPES,
    SPREAD_TYPES,
    complete,
    component_table,
    decompose,
    design,
    mean_squares,
    run_table,
    spread_table,
    terms,
    variances,
)
from lrrt.runs.spec import RunSpec

DIGEST = synthetic_study.DIGEST
BOTH = "variance.protocols=[blog_keras,blog_fastai]"
CROSSED = ("variance.weights=3", "variance.orders=3", "variance.augmentations=2", BOTH)


def spec(**changes) -> RunSpec:
    values = {"kind": "range_test", "backend": "torch", "weights_seed": 1, "order_seed": 2}
    values |= {"protocol": Protocol(), "model": resnet.Model(), "data_digest": DIGEST}
    return RunSpec(**values | {"batch_size": 64, "steps": 100} | changes)


# --- a seed of augmentation


def test_keys_of_stored_runs_stay():
    """Computed before there was a seed of augmentation."""
    assert spec().key == "fb2a6a901301f64c57d8ed65782db488a75d0dc5"
    training = spec(kind="training", backend="keras", lr=0.1, epochs=3)
    assert training.key == "0903383b6385504b667e4f33b36b4ddb2472c199"
    assert "augmentation_seed" not in spec().to_json()
    # Its own seed, given by name, makes the same run.
    assert spec(augmentation_seed=2).key == spec().key
    assert len({spec(augmentation_seed=seed).key for seed in (0, 1, 2, 3)}) == 4


@pytest.mark.parametrize("kind", ["crop", "shift"])
def test_augmentation_is_drawn_from_its_own_seed(kind):
    arguments = (64, 16, 5, kind, True)
    plain, same = BatchPlan(*arguments), BatchPlan(*arguments, augmentation_seed=5)
    other = BatchPlan(*arguments, augmentation_seed=6)
    moved = BatchPlan(64, 16, 6, kind, True, augmentation_seed=5)
    for step in (0, 3, 7):
        a, b, c, d = (plan.draws(step) for plan in (plain, same, other, moved))
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
        assert np.array_equal(a.indices, c.indices)
        assert not np.array_equal(a.shifts, c.shifts) and not np.array_equal(a.flips, c.flips)
        assert not np.array_equal(a.indices, d.indices) and np.array_equal(a.shifts, d.shifts)
    with pytest.raises(InputError, match="augmentation_seed"):
        BatchPlan(*arguments, augmentation_seed=-1)


# --- plan


def test_all_combinations_are_planned_and_shared_with_the_sweeps():
    config = synthetic_study.config(*CROSSED)
    planned = design_points(config, DIGEST)
    for protocol in ("blog_keras", "blog_fastai"):
        mine = [cell.spec for cell in planned if cell.protocol == protocol]
        seeds = [(s.weights_seed, s.order_seed, s.augmentation_seed) for s in mine]
        assert seeds == list(itertools.product(range(3), range(3), range(2)))
        keys = {s.key for s in mine}
        assert len(keys) == 18
        weights, order = (
            {s.key for s in sweep_specs(config, DIGEST, "torch", protocol, sweep)}
            for sweep in ("weights", "order")
        )
        # Augmentation as the order: (0, 0, 0) and (1, 1, 1); (0, 0, 0) and (0, 1, 1).
        assert len(keys & weights) == 2
        assert len(keys & order) == (2 if protocol == "blog_fastai" else 1), protocol


def test_augmentation_is_a_factor_where_there_is_one():
    both = design_points(synthetic_study.config(*CROSSED[:2], BOTH), DIGEST)
    assert len(both) == 18 and {cell.spec.augmentation_seed for cell in both} == {None}
    plain = synthetic_study.config(
        *CROSSED,
        "protocols.blog_keras.augmentation=none",
        "protocols.blog_keras.flip=false",
        "variance.depth=20",
        "variance.protocols=[blog_keras]",
    )
    planned = design_points(plain, DIGEST)
    assert len(planned) == 9 and {cell.spec.augmentation_seed for cell in planned} == {None}
    assert {cell.spec.model.depth for cell in planned} == {20} and plain.model.depth == 8
    assert design_points(synthetic_study.config("variance.weights=0"), DIGEST) == []


# --- components


def generated(deviations: dict, shape: tuple, seed: int) -> np.ndarray:
    """Log10 LRs with normal effects of the given standard deviations, by term."""
    random = np.random.default_rng(seed)
    values = np.full(shape, -1.0)
    for term, deviation in deviations.items():
        levels = [count if axis in term else 1 for axis, count in enumerate(shape)]
        values = values + random.normal(0, deviation, levels)
    return values


def test_mean_squares_on_numbers_that_a_hand_can_check():
    """Rows 0 and 2 apart, columns 0, 1, 5: squares by the textbook's formulas."""
    values = np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 10.0]])
    found = mean_squares(values)
    assert found[(0,)] == (pytest.approx(3 * ((2 - 3.5) ** 2 + (5 - 3.5) ** 2) / 1), 1)
    columns = 2 * ((1 - 3.5) ** 2 + (2 - 3.5) ** 2 + (7.5 - 3.5) ** 2)
    assert found[(1,)] == (pytest.approx(columns / 2), 2)
    rest = ((values - 3.5) ** 2).sum() - 13.5 - columns
    assert found[(0, 1)] == (pytest.approx(rest / 2), 2)
    got = variances({term: square for term, (square, _) in found.items()}, (2, 3))
    assert got[(0,)] == pytest.approx((13.5 - rest / 2) / 3)
    assert got[(1,)] == pytest.approx((columns / 2 - rest / 2) / 2)


@pytest.mark.parametrize(
    "deviations, shape",
    [
        ({(0,): 0.6, (1,): 0.3, (0, 1): 0.4}, (5, 5)),
        ({(0,): 0.3, (1,): 0.5, (2,): 0.2, (0, 1): 0.3, (0, 1, 2): 0.4}, (5, 4, 3)),
        ({(0, 1, 2): 0.5}, (3, 3, 2)),
    ],
)
def test_known_components_are_found_on_average_and_within_their_intervals(deviations, shape):
    repeats, low, high = 300, (1 - 0.95) / 2, (1 + 0.95) / 2
    estimates = {term: [] for term in terms(len(shape))}
    covered = dict.fromkeys(estimates, 0)
    for seed in range(repeats):
        found = decompose(generated(deviations, shape, seed), draws=400)
        for term in estimates:
            estimates[term].append(found.estimate[term])
            ends = np.quantile(found.draws[term], [low, high])
            covered[term] += ends[0] <= deviations.get(term, 0) ** 2 <= ends[1]
    for term, values in estimates.items():
        # Unbiased: within four standard errors of the mean of so many.
        error = np.std(values) / repeats**0.5
        assert abs(np.mean(values) - deviations.get(term, 0) ** 2) < 4 * error, term
        # 95 % of 300 is 285 +- 4; generalised intervals are at times wider than they say.
        assert covered[term] >= 0.92 * repeats, (term, covered[term])


def runs_of(values: np.ndarray, **columns) -> pd.DataFrame:
    """A table of runs whose min LR is 10 ** values and whose max LR is ten times that."""
    rows = []
    for at in np.ndindex(values.shape):
        lr = 10 ** values[at]
        seeds = (*at, pd.NA)[:3]
        rows.append(("r", "torch", "p", 8, 64, *seeds, lr, 10 * lr, False, False, False, ""))
    return pd.DataFrame(rows, columns=list(RUN_TYPES)).astype(RUN_TYPES).assign(**columns)


def test_what_the_weights_alone_do_is_theirs_and_gone_with_them_fixed():
    weights = np.array([-3.0, -2.0, -1.0])[:, None, None] + np.zeros((3, 3, 2))
    table = component_table(runs_of(weights)).set_index(["quantity", "component"])
    for quantity in ("min_lr", "max_lr"):
        rows = table.loc[quantity]
        assert rows.loc["weights", "variance"] == pytest.approx(1)
        assert rows.loc["weights", "share"] == pytest.approx(1)
        assert rows.loc["total", "variance"] == pytest.approx(1)
        assert set(rows.index) == {
            "weights",
            "order",
            "augmentation",
            "weights:order",
            "weights:augmentation",
            "order:augmentation",
            "weights:order:augmentation",
            "total",
        }
        assert (rows["n"] == 18).all() and (rows["reason"] == "").all()
    spread = spread_table(runs_of(weights)).set_index(["quantity", "fixed"]).loc["max_lr"]
    assert spread.loc["weights", "ratio"] == pytest.approx(0, abs=1e-6)
    assert spread.loc["order:augmentation", "ratio"] == pytest.approx(1)
    assert spread.loc["order", "all"] == pytest.approx(1)


def test_fixing_and_shares_agree_on_generated_runs():
    deviations = {(0,): 0.4, (1,): 0.8, (0, 1): 0.3}
    runs = runs_of(generated(deviations, (30, 30), 1))
    parts = component_table(runs).query("quantity == 'min_lr'").set_index("component")
    kept = parts.drop(index="total")
    assert kept["share"].sum() == pytest.approx(1)
    assert ((kept["low"] <= kept["share"]) & (kept["share"] <= kept["high"])).all()
    assert kept.loc["weights:order", "freedom"] == 29 * 29
    spread = spread_table(runs).query("quantity == 'min_lr'").set_index("fixed")
    assert set(spread.index) == {"weights", "order"}
    for factor in spread.index:
        left = 1 - kept.loc[factor, "share"]
        assert spread.loc[factor, "ratio"] == pytest.approx(left**0.5)
    # With so many levels there is no doubt that the order does more here.
    assert spread.loc["order", "to_weights_high"] < 1
    assert spread.loc["weights", "to_weights"] == pytest.approx(1)


def test_negative_estimates_are_told_and_count_as_none():
    values = np.array([[0.0, 1.0, 2.0], [1.0, 2.0, 0.0], [2.0, 0.0, 1.0]])  # only interaction
    parts = component_table(runs_of(values)).query("quantity == 'max_lr'").set_index("component")
    assert parts.loc["weights", "variance"] == pytest.approx(-0.5)
    assert parts.loc["weights", "share"] == 0
    assert parts.loc["weights:order", "share"] == pytest.approx(1)
    assert parts["variance"].drop("total").sum() == parts.loc["total", "variance"] > 0
    table = component_table(runs_of(values[:2, :2] % 2))  # of two levels even nothing at all
    assert table["share"].isna().all() and table["reason"].str.contains("take more levels").all()


@pytest.mark.slow(3)
@pytest.mark.parametrize(
    "deviations", [{(0, 1, 2): 1.0}, {(0, 1): 1.0}, {(0,): 0.8, (0, 1, 2): 0.6}]
)
def test_the_total_is_unbiased_and_a_ratio_lies_within_its_interval(deviations, monkeypatch):
    monkeypatch.setattr(decompose, "__defaults__", (1000,))  # draws
    monkeypatch.setattr(variance_tables, "QUANTITIES", ("min_lr",))  # max LR's are the same
    truth = sum(deviation**2 for deviation in deviations.values())
    left = truth - deviations.get((0,), 0.0) ** 2
    totals, held = [], []
    for seed in range(50):
        runs = runs_of(generated(deviations, (5, 5, 2), seed))
        totals.append(component_table(runs)["variance"].iloc[7])
        row = spread_table(runs).iloc[0]
        held.append(row["low"] - 1e-9 <= (left / truth) ** 0.5 <= row["high"] + 1e-9)
    error = np.std(totals) / len(totals) ** 0.5
    assert abs(np.mean(totals) - truth) < 3 * error
    assert np.mean(held) > 0.85


def test_what_hangs_on_one_seed_or_on_early_min_lrs_is_shown():
    noise = generated({(0, 1, 2): 0.1}, (5, 5, 2), 0)
    noise[2] += 1.5
    row = spread_table(runs_of(noise)).iloc[0]
    assert row["fixed"] == "weights" and row["high"] < 0.9
    assert row["least"] <= row["ratio"] < 0.3 and row["most"] > 0.9
    values = generated({(0,): 0.5, (0, 1, 2): 0.1}, (5, 5, 2), 0)
    values[0, 3] = values[2, 4] = -6
    runs = runs_of(values)
    runs["early"] = runs["min_lr"] < 1e-5
    spread = spread_table(runs).set_index(["quantity", "fixed"])
    min_lr, max_lr = (spread.loc[quantity, "weights"] for quantity in ("min_lr", "max_lr"))
    assert min_lr["ratio"] > 0.9 and min_lr["sound"] < 0.6 and min_lr["early"] == 4
    assert min_lr["sound_low"] < min_lr["sound"] < min_lr["sound_high"] < 1
    assert np.isnan(max_lr["sound"]) and max_lr["least"] > 0.8
    assert (min_lr["n"], min_lr["sound_n"], max_lr["sound_n"]) == (50, 32, 0)
    runs = runs.assign(early=False, reversed=runs["early"])
    assert spread_table(runs).equals(spread_table(runs).assign(early=0, reversed=4))
    sound = spread_table(runs).set_index(["quantity", "fixed"])["sound"]
    assert sound["min_lr", "weights"] == min_lr["sound"] and np.isnan(sound["max_lr", "weights"])


def test_early_is_the_ramps_first_decade_and_reversed_a_min_above_the_max(monkeypatch):
    def found(spec, store):
        start = spec.protocol.ramp.start
        return Suggestion(start * (9.9 if spec.order_seed else 10), max_lr=start * 9.95)

    monkeypatch.setattr("lrrt.experiments.variance.tables.stored_suggestion", found)
    runs = run_table(design_points(synthetic_study.config(*CROSSED), DIGEST), None)
    assert (runs["early"] == runs["order_seed"].ne(0)).all() and runs["early"].nunique() == 2
    assert (runs["reversed"] == runs["order_seed"].eq(0)).all()


def test_a_run_without_a_suggestion_is_neither(monkeypatch):
    monkeypatch.setattr(
        "lrrt.experiments.variance.tables.stored_suggestion",
        lambda spec, store: abstain("no descent"),
    )
    runs = run_table(design_points(synthetic_study.config(*CROSSED), DIGEST), None)
    assert runs["min_lr"].isna().all() and not runs[["early", "reversed"]].any(axis=None)


def test_equal_suggestions_have_no_shares():
    runs = runs_of(np.full((3, 3, 2), -1.1))
    table = component_table(runs)
    assert (table["variance"] == 0).all() and (table["variance_high"] == 0).all()
    assert table["share"].isna().all() and (table["reason"] == "all suggestions are equal").all()
    assert spread_table(runs)["ratio"].isna().all()


def test_missing_combinations_cost_levels_or_the_answer():
    values = generated({(0, 1, 2): 0.5}, (4, 3, 2), 0)
    values[1, 0, 0] = values[1, 2, 1] = np.nan
    assert [level.tolist() for level in complete(values)] == [[0, 2, 3], [0, 1, 2], [0, 1]]
    runs = runs_of(values)
    table = component_table(runs)
    assert (table["n"] == 18).all() and (table["dropped"] == 6).all()
    assert (table["abstained"] == 2).all()
    again = component_table(runs[runs["weights_seed"] != 1])
    assert np.allclose(table["variance"], again["variance"])
    few = values[:2, :2]
    assert complete(few) is None
    declined = component_table(runs_of(few))
    assert declined["share"].isna().all() and (declined["n"] == 0).all()
    assert declined["reason"].str.contains("1 of 8 combinations have no suggestion").all()
    assert spread_table(runs_of(few))["reason"].str.contains("no complete").all()
    # A combination that was never run counts like one without a suggestion.
    assert (component_table(runs_of(values[[0, 2, 3]]).iloc[1:])["dropped"] > 0).all()


def test_a_combination_twice_is_refused():
    runs = runs_of(np.zeros((2, 2)))
    with pytest.raises(InputError, match="once"):
        design(pd.concat([runs, runs]), "min_lr")


def test_tables_of_planned_runs():
    config = synthetic_study.config(*CROSSED)
    planned = design_points(config, DIGEST)
    runs = run_table(planned, synthetic_study.Formulas([cell.spec for cell in planned]))
    assert list(runs) == list(RUN_TYPES) and len(runs) == 36
    parts, spread = component_table(runs), spread_table(runs)
    assert list(parts) == list(COMPONENT_TYPES) and list(spread) == list(SPREAD_TYPES)
    assert len(parts) == 2 * 2 * 8 and len(spread) == 2 * 2 * 6
    assert parts.groupby(["protocol", "quantity"])["share"].max().eq(1).all()
    assert not runs["early"].any()
    first = runs.assign(early=runs.index == runs.index[0])  # a run of one case
    for table in (component_table(first), spread_table(first)):
        mine = table["protocol"] == runs["protocol"].iloc[0]
        assert (table["early"] == mine.astype(int)).all() and mine.any() and not mine.all()
    empty = run_table([], synthetic_study.Formulas([]))
    assert list(component_table(empty)) == list(parts) and len(spread_table(empty)) == 0


# --- configuration


@pytest.mark.parametrize(
    "override, part",
    [
        ("variance.weights=1", "0, or a number from 2"),
        ("variance.orders=1", "from 2 to 100"),
        ("variance.augmentations=0", "from 1 to 100"),
        ("variance.protocols=[]", "at least one"),
        ("variance.protocols=[blog_keras,blog_keras]", "none twice"),
        ("variance.protocols=[gone]", "blog_fastai"),
        ("variance.depth=9", "6n + 2"),
        ("variance.backend=jax", "torch"),
    ],
)
def test_a_bad_design_is_refused(override, part):
    with pytest.raises(InputError, match=part.replace("+", r"\+")) as caught:
        synthetic_study.config(*(CROSSED[:1] if "weights" not in override else ()), override)
    assert str(caught.value).startswith("variance.")


def test_depth_is_of_the_ladder_too():
    config = synthetic_study.config("attribution.depth=20")
    assert dataclasses.replace(config.attribution, depth=None) != config.attribution
    with pytest.raises(InputError, match="attribution.depth"):
        synthetic_study.config("attribution.depth=21")
