"""Tables, quantiles, intervals and claims, on frames small enough to check by hand."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from scipy import stats

from lrrt import plugins
from lrrt.analysis import claims as judged
from lrrt.analysis.evidence import DOES_NOT_HOLD, HOLDS, UNDECIDED, Study, beside
from lrrt.analysis.published import published
from lrrt.analysis.statistics import common_slope, running_median, share_interval
from lrrt.analysis.tables import (
    SUGGESTION_TYPES,
    by_own_rule,
    runs_of,
    suggestion_table,
)
from lrrt.config import Config, SweepConfig
from lrrt.core.curve import COLUMNS
from lrrt.core.protocol import ProtocolConfig, RampConfig, WeightDecayConfig
from lrrt.core.rules import replay
from lrrt.core.smoothing import ema
from lrrt.errors import InputError
from lrrt.experiments.sweep import dispersion
from lrrt.experiments.transfer.tables import CELL

KERAS, FASTAI = ("keras", "blog_keras"), ("torch", "blog_fastai")
PROTOCOLS = {
    "blog_keras": ProtocolConfig(rule="blog_keras", home="keras"),
    "blog_fastai": ProtocolConfig(rule="blog_fastai", home="torch"),
}
STEPS = 60
LRS = np.geomspace(1e-7, 100, STEPS)


def curve(lr_min=1e-1, *, level=3.0, floor=1.0, flat_until=1e-4, explodes=True) -> np.ndarray:
    """A plateau, a straight fall (in log LR) down to ``floor`` at ``lr_min``, a steep rise."""
    x = np.log10(LRS)
    fall = np.clip((x - np.log10(flat_until)) / np.log10(lr_min / flat_until), 0, 1)
    rise = np.clip(x - np.log10(lr_min), 0, None) ** 2 * 8 if explodes else 0
    return level - (level - floor) * fall + rise


def curve_rows(losses, case=FASTAI, sweep="weights", batch_sizes=None, **columns) -> pd.DataFrame:
    """A curve table with one run per row of ``losses``."""
    parts = []
    for seed, loss in enumerate(losses):
        lr = np.geomspace(LRS[0], LRS[-1], len(loss))
        part = pd.DataFrame({"lr": lr, "loss": loss, "step": range(len(loss))})
        part = part.assign(
            run=f"run{seed}",
            backend=case[0],
            protocol=case[1],
            sweep=sweep,
            weights_seed=seed,
            order_seed=seed,
            batch_size=batch_sizes[seed] if batch_sizes else 64,
            penalty=0.0,
            grad_norm=1.0,
            val_loss=np.nan,
            val_accuracy=np.nan,
        ).assign(**columns)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def suggestion_rows(ranges, case=FASTAI, sweep="weights", batch_sizes=None, fallback=False):
    """A suggestion table with the own rule's range of each run."""
    rows = [
        (
            f"run{seed}",
            *case,
            sweep,
            seed,
            seed,
            batch_sizes[seed] if batch_sizes else 64,
            case[1],
            low,
            high,
            fallback,
            "",
            None,
        )
        for seed, (low, high) in enumerate(ranges)
    ]
    return pd.DataFrame(rows, columns=list(SUGGESTION_TYPES)).astype(SUGGESTION_TYPES)


# --- tables


def test_suggestions_are_those_of_each_rule_on_what_the_protocol_records():
    keras = dataclasses.replace(
        PROTOCOLS["blog_keras"],
        ramp=RampConfig(pairing="after"),
        weight_decay=WeightDecayConfig(kind="l2", recorded=True),
    )
    curves = pd.concat(
        [
            curve_rows([curve(1e-2), curve(1e-1)]),
            curve_rows([curve(1.0)], KERAS, penalty=5.0),
            curve_rows([curve(1e-2)], sweep="order"),  # the same run in another sweep
        ]
    ).sample(frac=1, random_state=0)
    table = suggestion_table(curves, PROTOCOLS | {"blog_keras": keras})
    rules = plugins.names("lrrt.core.rules")
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == SUGGESTION_TYPES
    assert len(table) == 4 * len(rules) and set(table["rule"]) == set(rules)
    index = table.set_index(["backend", "sweep", "run", "rule"])
    for run, lr_min in (("run0", 1e-2), ("run1", 1e-1)):
        expected = replay("blog_fastai", LRS, curve(lr_min))
        found = index.loc[("torch", "weights", run, "blog_fastai")]
        assert (found["min_lr"], found["max_lr"]) == (expected.min_lr, expected.max_lr)
        assert found["stop_step"] == expected.stop_step
    expected = replay("blog_keras", LRS, curve(1.0) + 5)
    found = index.loc[("keras", "weights", "run0", "blog_keras")]
    assert (found["min_lr"], found["max_lr"]) == (expected.min_lr, expected.max_lr)
    validated = curve_rows([curve(1e-2)]).assign(val_accuracy=np.linspace(0.1, 0.6, len(LRS)))
    smith = suggestion_table(validated, PROTOCOLS).set_index("rule").loc["smith"]
    assert smith["min_lr"] == LRS[int(0.05 * (len(LRS) - 1))] and smith["max_lr"] > smith["min_lr"]
    own = by_own_rule(table, PROTOCOLS)
    assert len(own) == 4 and (own["rule"] == own["protocol"]).all()


def test_abstentions_and_unknown_protocols():
    table = suggestion_table(curve_rows([np.full(STEPS, np.nan)]), PROTOCOLS)
    assert table[["min_lr", "max_lr"]].isna().all(axis=None) and (table["reason"] != "").all()
    with pytest.raises(InputError, match="blog_keras"):
        suggestion_table(curve_rows([curve()], ("torch", "adam")), PROTOCOLS)
    empty = suggestion_table(pd.DataFrame(columns=list(COLUMNS)), PROTOCOLS)
    assert len(empty) == 0 and list(empty.columns) == list(SUGGESTION_TYPES)


def test_curves_of_rows_in_whatever_order():
    rows = curve_rows([curve(), curve(1.0)])
    rows.loc[rows["run"] == "run1", "val_loss"] = 2.0
    (_, validated), (first, plain) = runs_of(rows.iloc[::-1])
    assert first["run"] == "run0"
    assert np.array_equal(plain.lr, LRS) and np.array_equal(plain.loss, curve())
    assert plain.val_loss is None and validated.val_accuracy is None
    assert (validated.val_loss == 2).all()


# --- dispersion


def test_quantiles_are_taken_in_log10():
    values = [1e-4, 1e-2, math.nan, 0.0, math.inf]
    assert dispersion.log_quantiles(values, [0, 0.5, 1]).tolist() == pytest.approx(
        [1e-4, 1e-3, 1e-2]
    )
    assert np.isnan(dispersion.log_quantiles([math.nan], [0.5])).all()


def test_median_interval():
    values = 10.0 ** np.arange(-10, 11)
    low, high = dispersion.median_interval(values)
    assert (low, high) == dispersion.median_interval(values)
    assert low < 1 < high and low == pytest.approx(1 / high, rel=1e-9)
    # Order statistics that hold 95 % of 21 binomial trials: ranks 6 and 16, values 1e-5 and 1e5.
    assert 1e-7 <= low <= 1e-3 and 1e3 <= high <= 1e7
    assert np.isnan(dispersion.median_interval([1.0])).all()
    assert dispersion.median_interval([2.0, 2.0, 2.0]) == pytest.approx((2.0, 2.0))


def test_column_quantiles_count_what_is_not_finite_as_infinite():
    values = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, np.inf], [3.0, np.nan, np.nan]])
    low, median, high = dispersion.column_quantiles(values, [0.25, 0.5, 0.75])
    assert low.tolist() == [1.5, 1.5, math.inf]
    assert median.tolist() == [2, 2, math.inf] and high.tolist() == [2.5, math.inf, math.inf]


def test_loss_bands():
    losses = [curve(level=level) for level in (2.0, 3.0, 7.0)]
    bands = dispersion.loss_bands(curve_rows(losses), PROTOCOLS, (0.0, 1.0))
    assert len(bands) == STEPS and bands["lr"].tolist() == LRS.tolist()
    for name, loss in zip(("low", "median", "high"), losses, strict=True):
        assert bands[name].tolist() == pytest.approx(ema(loss).tolist())
    assert set(bands["n"]) == {3} and bands["batch_size"].tolist() == [64] * STEPS


def test_range_summary():
    rows = suggestion_rows([(1e-4, 1e-2), (1e-3, 1e-1), (1e-2, 1.0), (math.nan, math.nan)])
    rows.loc[0, "fallback"] = True
    summary = dispersion.range_summary(rows).set_index("quantity")
    assert summary["n"].tolist() == [4, 4] and summary["abstained"].tolist() == [1, 1]
    assert summary["fallbacks"].tolist() == [1, 1]
    low = summary.loc["min_lr"]
    assert [low["q10"], low["median"], low["q90"]] == pytest.approx([10**-3.8, 1e-3, 10**-2.2])
    assert 1e-4 <= low["median_low"] <= low["median"] <= low["median_high"] <= 1e-2 * 1.0001


def test_published_table():
    table = published()
    assert len(table) == 8 and table["q10"].isna().sum() == 1
    known = table.dropna()
    assert (known["q10"] < known["median"]).all() and (known["median"] < known["q90"]).all()


def test_published_comparison():
    suggestions = pd.concat(
        [
            suggestion_rows([(5e-4, 0.4)] * 3),  # both inside
            suggestion_rows([(6e-4, 2.0)] * 3, sweep="order"),  # no bar; above the bar
            suggestion_rows([(5e-4, 0.4)] * 3, KERAS),  # both below
            suggestion_rows([(math.nan, math.nan)], KERAS, sweep="order"),
        ]
    )
    table = dispersion.published_comparison(suggestions, PROTOCOLS)
    inside = table.set_index(["backend", "sweep", "quantity"])["inside"].to_dict()
    assert inside == {
        ("keras", "weights", "min_lr"): False,
        ("keras", "weights", "max_lr"): True,
        ("keras", "order", "min_lr"): None,
        ("keras", "order", "max_lr"): None,
        ("torch", "weights", "min_lr"): True,
        ("torch", "weights", "max_lr"): True,
        ("torch", "order", "min_lr"): None,
        ("torch", "order", "max_lr"): False,
    }
    assert table.loc[0, "published_median"] == 0.102


def test_batch_size_slopes():
    sizes = [64, 128, 256, 512]
    noise = [1.0, 1.05, 0.95, 1.0]
    ranges = [(1e-6 * s**0.5, 1e-4 * s * n) for s, n in zip(sizes, noise, strict=True)]
    rows = suggestion_rows(ranges, sweep="batch_size", batch_sizes=sizes)
    rows = rows.assign(weights_seed=0, order_seed=0)
    table = dispersion.batch_size_slopes(rows).set_index("quantity")
    exact, linear = table.loc["min_lr"], table.loc["max_lr"]
    assert exact["slope"] == pytest.approx(0.5) and (exact["n"], exact["batch_sizes"]) == (4, 4)
    fit = stats.linregress(np.log10(sizes), np.log10([high for _, high in ranges]))
    half = 4.302653 * fit.stderr  # t of 2 degrees of freedom
    assert [linear["low"], linear["high"]] == pytest.approx([fit.slope - half, fit.slope + half])
    assert linear["linear"] and not linear["square_root"]
    # Another seed has an intercept of its own.
    higher = rows.assign(weights_seed=1, min_lr=100 * rows["min_lr"])
    two = dispersion.batch_size_slopes(pd.concat([rows, higher])).set_index("quantity")
    assert two.loc["min_lr", ["low", "slope", "high"]].to_list() == pytest.approx([0.5] * 3)
    assert len(dispersion.batch_size_slopes(suggestion_rows([(0.1, 1)] * 5))) == 0


# --- the statistics that decide


def test_share_interval_and_verdict():
    assert share_interval(0, 20) == pytest.approx((0, 0.1684), abs=1e-4)
    assert beside(share_interval(4, 4), 0.5) == UNDECIDED  # one in eight, by chance
    assert share_interval(0, 0) is None
    assert beside(share_interval(20, 20), 0.5) == HOLDS
    assert beside(share_interval(0, 20), 0.5) == DOES_NOT_HOLD
    assert beside(share_interval(10, 20), 0.5) == beside(None, 0.5) == UNDECIDED
    assert beside((math.nan, math.nan), 0.5) == UNDECIDED


def test_common_slope_gives_each_group_its_intercept():
    slope, interval, n = common_slope([([0, 1, 2], [0, 1, 2.1]), ([0, 1, 2], [7, 8, 8.9])])
    assert slope == pytest.approx(1.0) and n == 6
    # Residuals about slope 1 and both means: 0.1 (-1, -1, 2) / 3 and its negative; 3 degrees.
    error = math.sqrt(2 * 0.01 * 6 / 9 / 3 / 4)
    assert interval == pytest.approx((1 - 3.182446 * error, 1 + 3.182446 * error))
    assert common_slope([([1, 1], [2, 3])]) is None and common_slope([([0, 1], [2, 3])]) is None


def test_running_median():
    found = running_median(np.array([1.0, 9.0, 2.0, 3.0, np.nan, 4.0]))
    assert found.tolist() == [1, 2, 3, 4, 4, 4]


# --- claims

EMPTY = {
    "curves": pd.DataFrame(columns=list(COLUMNS)),
    "suggestions": pd.DataFrame(columns=list(SUGGESTION_TYPES)).astype(SUGGESTION_TYPES),
    "trainings": pd.DataFrame(columns=[*CELL, "epoch", "val_loss", "val_accuracy"]),
    "outcomes": pd.DataFrame(columns=[*CELL, "epochs", "outcome", "reason"]),
    "pairs": {},
}


def config(**changes) -> Config:
    sweeps = dict.fromkeys(("weights", "order", "batch_size", "batch_size_epoch"), SweepConfig())
    found = Config(
        protocols=PROTOCOLS, sweeps=sweeps | {"validation": SweepConfig(validation="running")}
    )
    found.report.bootstrap_resamples = 300
    return dataclasses.replace(found, **changes)


def posts_config() -> Config:
    ramp = RampConfig(steps=100)
    fastai = dataclasses.replace(PROTOCOLS["blog_fastai"], ramp=ramp)
    found = config(protocols=PROTOCOLS | {"blog_fastai": fastai})
    found.model.depth, found.sweep.batch_size = 56, 512
    found.sweeps["weights"].batch_sizes = found.sweeps["validation"].batch_sizes = [512]
    found.data.name, found.data.train_images, found.data.test_images = "cifar10", 50000, 10000
    return found


def study(config_: Config | None = None, **frames) -> Study:
    lists = {
        name: pd.concat(value, ignore_index=True) if isinstance(value, list) else value
        for name, value in frames.items()
    }
    return Study(**(EMPTY | lists), config=config_ or config())


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, True),
        ({"model.depth": 20}, False),
        ({"data.name": "digits"}, False),
        ({"sweep.batch_size": 256}, False),
        ({"sweep.steps": 97}, False),  # of fastai's, too
        ({"sweep.steps": 97, "study.protocols": ["blog_keras"]}, True),
        ({"protocols.blog_keras.ramp.steps": 50}, False),
        ({"protocols.blog_keras.ramp.steps": 97}, True),
        ({"protocols.blog_fastai.ramp.steps": None}, False),
        ({"protocols.blog_fastai.ramp.steps": None, "study.protocols": ["blog_keras"]}, True),
    ],
)
def test_the_scale_of_the_post(change, expected):
    values = OmegaConf.load(Path(__file__).parents[1] / "reports" / "blog" / "params.yaml")
    for key, value in change.items():
        OmegaConf.update(values, key, value)
    found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), values))
    assert study(found).at_the_posts_scale == expected


def trained(*cells: dict) -> dict[str, pd.DataFrame]:
    """Outcomes and trainings of one row or epoch per value given; defaults as the A -> B cell."""
    outcomes, trainings = [], []
    for number, given in enumerate(cells):
        cell = {
            "training": f"t{number}",
            "pair": "torch-blog_fastai",
            "backend": "torch",
            "protocol": "blog_fastai",
            "weights_seed": 0,
            "order_seed": 0,
            "batch_size": 64,
            "weights": "B",
            "lr_of": "A",
            "lr_kind": "max",
            "weights_from": "",
            "policy": "constant",
            "lr": 1.0,
            "run": f"r{number}",
            "outcome": "trains",
            "val_loss": [1.0],
            "val_accuracy": [0.5],
        } | given
        losses, accuracies = cell.pop("val_loss"), cell.pop("val_accuracy")
        counts = {"epochs": len(losses), "compared_epochs": 1}
        outcomes.append({"compared_outcome": cell["outcome"], "reason": ""} | counts | cell)
        for epoch, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True), start=1):
            measured = {"epoch": epoch, "val_loss": loss, "val_accuracy": accuracy}
            trainings.append({name: cell[name] for name in CELL} | measured)
    return {"outcomes": pd.DataFrame(outcomes), "trainings": pd.DataFrame(trainings)}


def pairs(*disjoint: bool) -> dict:
    runs = {"A": {"run": "A"}, "B": {"run": "B"}}
    first, *others = (runs | {"gap_decades": 1.0, "disjoint": d} for d in disjoint)
    return {"torch-blog_fastai": first | {"further": others}}


def names(count: int) -> list[str]:
    return ["torch-blog_fastai", *(f"torch-blog_fastai-{i}" for i in range(2, count + 1))]


def verdict_of(function, *arguments, **frames) -> str:
    return function(study(*arguments, **frames)).verdict


RANGES = [(1e-4, 1e-2)] * 8


def test_without_runs_every_claim_is_undecided_and_says_why():
    found = judged.claims(study())
    assert len(found) == 17 and {entry["verdict"] for entry in found} == {UNDECIDED}
    assert all(entry["evidence"].endswith(".") and entry["interval"] is None for entry in found)
    assert [entry["claim"] for entry in found] == list(judged.decision_rules())
    assert all("olds if" in rule for rule in judged.decision_rules().values())


def test_decision_rules_say_the_constants_that_decide(monkeypatch):
    before = judged.decision_rules()
    assert not any(set("{}") & set(rule) for rule in before.values())
    constants = {
        "PLATEAU_TOLERANCE": 0.3,
        "DESCENT_SHARE": 0.3,
        "RISE": 0.3,
        "NOTHING_ADDED": 0.7,
        "UNSTEADY": 7,
        "IMPRACTICAL": 70.0,
        "MOSTLY_HARMLESS": (0.3, 0.7),
        "ALL_OVERLAP_RUNS": 70,
        "LESS_DEPENDENCE": 0.3,
        "MINIMUM_RUNS": 70,
        "USUAL_LR": 7.0,
    }
    for name, value in constants.items():
        with monkeypatch.context() as patch:
            patch.setattr(judged, name, value)
            assert judged.decision_rules() != before, name


def test_claims_are_json_and_the_same_again():
    sizes = [64, 64, 128, 128, 256, 256]
    batches = {"sweep": "batch_size", "batch_sizes": sizes}
    suggested = [
        suggestion_rows(RANGES),
        suggestion_rows(RANGES, sweep="order"),
        suggestion_rows(RANGES, KERAS),
        suggestion_rows(RANGES[:6], **batches),
    ]
    curves = [curve_rows([curve()] * 8), curve_rows([curve()] * 6, **batches)]
    frames = {
        "curves": pd.concat(curves),
        "suggestions": pd.concat(suggested),
        "pairs": pairs(True),
    } | trained({}, {"lr_of": "B"}, {"lr_kind": "min"}, {"lr_kind": "middle"})
    found = judged.claims(study(**frames, seconds={"run0": 1.0}))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert judged.claims(study(**frames, seconds={"run0": 1.0})) == found
    assert all(list(e) == ["claim", "evidence", "verdict", "interval"] for e in found)


@pytest.mark.parametrize(
    "losses, expected",
    [
        ([curve()] * 8, HOLDS),
        ([curve(explodes=False)] * 8, DOES_NOT_HOLD),
        ([curve(floor=2.9)] * 8, DOES_NOT_HOLD),
        ([curve(2e-6, flat_until=2e-7)] * 8, DOES_NOT_HOLD),  # falls from the start: no plateau
        ([curve()] * 3 + [curve(explodes=False)] * 3, UNDECIDED),
        ([np.where(LRS > 1, np.nan, curve())] * 8, HOLDS),  # not finite is an explosion, too
    ],
)
def test_typical_shape(losses, expected):
    frames = {"curves": curve_rows(losses), "suggestions": suggestion_rows(RANGES)}
    assert verdict_of(judged.typical_shape, **frames) == expected


def test_published_medians():
    inside = [
        suggestion_rows([(0.1, 2.0)] * 6, KERAS),
        suggestion_rows([(0.08, 0.9)] * 6, KERAS, "order"),
        suggestion_rows([(5e-4, 0.4)] * 6),
        suggestion_rows([(5e-4, 0.1)] * 6, sweep="order"),
    ]
    function = judged.published_medians
    assert verdict_of(function, posts_config(), suggestions=inside) == HOLDS
    assert verdict_of(function, suggestions=inside) == UNDECIDED  # not the post's scale
    assert verdict_of(function, posts_config(), suggestions=inside[:3]) == UNDECIDED
    outside = [*inside[1:], suggestion_rows([(0.1, 4.0)] * 6, KERAS)]
    assert verdict_of(function, posts_config(), suggestions=outside) == DOES_NOT_HOLD
    few = [*inside[1:], suggestion_rows([(0.1, 2.0)] * 5, KERAS)]
    assert verdict_of(function, posts_config(), suggestions=few) == UNDECIDED
    # The order sweep is of one set of weights: outside there, others might be inside.
    order_outside = [*inside[:3], suggestion_rows([(5e-4, 0.9)] * 6, sweep="order")]
    assert verdict_of(function, posts_config(), suggestions=order_outside) == UNDECIDED


def test_steepest_descent():
    curves = [curve_rows([curve()] * 8), curve_rows([curve()] * 8, KERAS)]
    fastai, keras = suggestion_rows(RANGES), suggestion_rows(RANGES, KERAS)
    there, elsewhere = (keras.assign(rule="blog_fastai", min_lr=lr) for lr in (1.01e-4, 1e-3))
    function = judged.steepest_descent
    frames = {"curves": curves, "suggestions": [fastai, keras, there]}
    assert verdict_of(function, **frames) == HOLDS
    found = function(study(curves=curves, suggestions=[fastai, keras, elsewhere]))
    assert found.verdict == DOES_NOT_HOLD and "keras with blog_keras: 0 of 8" in found.evidence
    few = {"curves": curves, "suggestions": suggestion_rows(RANGES[:2])}
    assert verdict_of(function, **few) == UNDECIDED


def test_steepest_descent_of_a_protocol_that_trains_at_the_first_lr_twice():
    keras = {
        "blog_keras": ProtocolConfig(
            rule="blog_keras", home="keras", ramp=RampConfig(pairing="after")
        )
    }
    curves = curve_rows([curve()] * 8, KERAS)
    curves["lr"] = np.tile([LRS[0], *LRS[:-1]], 8)
    own = suggestion_rows(RANGES, KERAS)
    found = judged.steepest_descent(
        study(
            config(protocols=PROTOCOLS | keras),
            curves=curves,
            suggestions=[own, own.assign(rule="blog_fastai")],
        )
    )
    assert found.verdict == HOLDS and "keras with blog_keras: 8 of 8" in found.evidence


@pytest.mark.parametrize(
    "max_lr, expected",
    [
        (3e-2, HOLDS),  # the raw minimum, 0.1, lies between 0.03 and 0.3
        (0.5, DOES_NOT_HOLD),  # past the raw minimum even after division
        (3e-3, DOES_NOT_HOLD),  # the smoothed minimum, 0.03, was not past it
    ],
)
def test_minimum_over_ten(max_lr, expected):
    frames = {
        "curves": curve_rows([curve(0.1)] * 8),
        "suggestions": suggestion_rows([(1e-4, max_lr)] * 8),
    }
    assert verdict_of(judged.minimum_over_ten, **frames) == expected


def spread(decades: float, count: int = 12) -> list[tuple[float, float]]:
    """Maximum LRs with that standard deviation in log10."""
    z = stats.norm.ppf((np.arange(count) + 0.5) / count)
    return [(1e-6, 10 ** (decades * value)) for value in z]


@pytest.mark.parametrize(
    "new, same, expected",
    [
        (spread(0.6), spread(0.1), HOLDS),
        (spread(0.1), spread(0.6), DOES_NOT_HOLD),
        (spread(0.3), spread(0.28), UNDECIDED),
        (spread(0.6, 5), spread(0.1, 5), UNDECIDED),
    ],
)
def test_weights_change_suggestion(new, same, expected):
    frames = [suggestion_rows(new), suggestion_rows(same, sweep="order")]
    assert verdict_of(judged.weights_change_suggestion, suggestions=frames) == expected


def test_one_odd_run_does_not_show_that_weights_change_the_suggestion():
    same = [(1e-6, 1e-2 * 10 ** (i % 3 / 10)) for i in range(12)]
    new = [*same[:-1], (1e-6, 1.0)]
    frames = [suggestion_rows(new), suggestion_rows(same, sweep="order")]
    found = judged.weights_change_suggestion(study(suggestions=pd.concat(frames)))
    assert (
        found.verdict == UNDECIDED and "furthest from the median of each sample" in found.evidence
    )


def test_the_crossed_design_is_beside_what_weights_change():
    frames = [
        suggestion_rows([(1e-6, 10.0**-i) for i in range(8)] * 2, sweep=sweep)
        for sweep in ("weights", "order")
    ]
    rows = [
        ("weights", "max_lr", 0.5, 36),
        ("weights", "min_lr", 0.9, 36),
        ("order", "max_lr", 1, 36),
    ]
    spread = pd.DataFrame(rows, columns=["fixed", "quantity", "ratio", "n"])
    spread = spread.assign(backend="torch", protocol="blog_fastai", low=0.25, high=0.75)
    judge = judged.weights_change_suggestion
    found = judge(study(suggestions=pd.concat(frames), variance_spread=spread))
    words = (
        "the same weights leave torch with blog_fastai 0.50 [0.25, 0.75] (n = 36) of its spread."
    )
    assert words in found.evidence and "0.9" not in found.evidence
    assert "Crossed design" not in judge(study(suggestions=pd.concat(frames))).evidence


def test_disjoint_ranges():
    function = judged.disjoint_ranges
    apart = suggestion_rows([(1e-4, 1e-2)] * 5 + [(1e-1, 1.0)])
    found = function(study(suggestions=apart))
    assert found.verdict == HOLDS and "5 of 15 pairs of 6" in found.evidence
    assert 0 <= found.interval[0] < 5 / 15 < found.interval[1] < 1
    assert "fallback" not in found.evidence
    fell = suggestion_rows([(1e-4, 1e-2)] * 5 + [(1e-1, 1.0)], KERAS, fallback=True)
    steepest = fell.assign(rule="blog_fastai", min_lr=[1e-4] * 5 + [1e-3])
    owed = function(study(suggestions=[fell, steepest])).evidence
    assert "In 5 of the 5 a minimum is the rule's silent fallback" in owed
    assert "0 are disjoint." in owed
    steepest["min_lr"] = [1e-4] * 5 + [2.0]  # above its maximum: no range at all
    owed = function(study(suggestions=[fell, steepest])).evidence
    assert "0 are disjoint, and 5 have a run whose minimum is then above" in owed
    wrong_way = suggestion_rows([(1e-4, 1e-2)] * 5 + [(1.0, 1e-1)])  # the last is no range
    assert "0 of 10 pairs of 5" in function(study(suggestions=wrong_way)).evidence
    overlapping = function(study(suggestions=suggestion_rows([(1e-4, 1e-2)] * 10)))
    assert overlapping.verdict == DOES_NOT_HOLD and overlapping.interval is None
    assert verdict_of(function, suggestions=suggestion_rows([(1e-4, 1e-2)] * 9)) == UNDECIDED


@pytest.mark.parametrize(
    "outcomes, expected",
    [
        (["diverged"] * 4 + ["overfits"] * 2, HOLDS),
        (["trains"] * 4 + ["stalls"] * 2, DOES_NOT_HOLD),
        (["trains"] * 6 + ["lags"] * 2, UNDECIDED),  # neither harmed nor not
        (["diverged"] * 6 + ["lags"] * 6, UNDECIDED),
        (["diverged"], UNDECIDED),
    ],
)
def test_transfer_harms(outcomes, expected):
    cells = [
        {"pair": name, "outcome": outcome}
        for name, outcome in zip(names(len(outcomes)), outcomes, strict=True)
    ]
    disjoint = pairs(*[True] * len(outcomes))
    # What is not native weights B at A's max LR under a constant policy does not count.
    opposite = "overfits" if expected == DOES_NOT_HOLD else "trains"
    others = [
        {name: value, "outcome": opposite}
        for name, value in (
            ("weights", "A"),
            ("lr_kind", "min"),
            ("policy", "triangular"),
            ("weights_from", "keras"),
        )
    ]
    frames = trained(*cells, *others)
    assert verdict_of(judged.transfer_harms, pairs=disjoint, **frames) == expected
    overlapping = pairs(*[False] * len(outcomes))
    assert verdict_of(judged.transfer_harms, pairs=overlapping, **frames) == UNDECIDED


@pytest.mark.parametrize(
    "own, other, expected",
    [
        ([0.3, 0.6], [0.2, 0.5, 0.9], HOLDS),  # compared after the second epoch
        ([0.3, 0.4], [0.2, 0.5, 0.1], DOES_NOT_HOLD),
        ([0.3, 0.1], [0.2, math.nan, math.nan], HOLDS),
        ([0.3, math.nan], [0.2, math.nan, math.nan], UNDECIDED),  # both stopped: a tie
    ],
)
def test_same_weights(own, other, expected):
    cells = [
        {
            "pair": name,
            "weights": weights,
            "lr_of": lr_of,
            "val_accuracy": accuracies,
            "val_loss": [1.0] * len(accuracies),
        }
        for name in names(6)
        for weights, both in (("A", "AB"), ("B", "BA"))
        for lr_of, accuracies in zip(both, (own, other), strict=True)
    ]
    finding = judged.same_weights(study(**trained(*cells)))
    assert finding.verdict == expected and "Of no pair" not in finding.evidence
    if expected in (HOLDS, DOES_NOT_HOLD):
        for_a = f"the better for weights A in {6 if expected == DOES_NOT_HOLD else 0} of 6"
        assert for_a in finding.evidence
    one_sided = [cell for cell in cells if cell["weights"] == "B"]
    finding = judged.same_weights(study(**trained(*one_sided)))
    assert finding.verdict == UNDECIDED and finding.interval is None
    # A low LR is better for all, nobody's own; and with that, their own is better all the same.
    exchanged = {"A": "B", "B": "A"}
    low = [
        cell | ({"lr_of": exchanged[cell["lr_of"]]} if cell["weights"] == "A" else {})
        for cell in cells
    ]
    assert verdict_of(judged.same_weights, **trained(*low)) == UNDECIDED
    for cell in low:
        gain = 0.05 if cell["weights"] == cell["lr_of"] else 0.0
        cell["val_accuracy"] = [accuracy + gain for accuracy in cell["val_accuracy"]]
    stopped = any(map(math.isnan, own + other))
    assert stopped or verdict_of(judged.same_weights, **trained(*low)) == HOLDS


def test_torch_is_lower():
    low, high = (
        suggestion_rows([(s * 1e-4, s * 1e-2)] * 6, case)
        for s, case in ((1.0, FASTAI), (50.0, KERAS))
    )
    found = judged.torch_is_lower(study(suggestions=[low, high]))
    assert found.verdict == HOLDS and found.interval == pytest.approx((0.02, 0.02))
    low, high = (
        suggestion_rows([(s * 1e-4, s * 1e-2)] * 6, case)
        for s, case in ((1.0, KERAS), (50.0, FASTAI))
    )
    assert verdict_of(judged.torch_is_lower, suggestions=[low, high]) == DOES_NOT_HOLD
    few = [
        suggestion_rows([(s * 1e-4, s * 1e-2)] * 2, case)
        for s, case in ((1.0, FASTAI), (50.0, KERAS))
    ]
    assert verdict_of(judged.torch_is_lower, suggestions=few) == UNDECIDED


@pytest.mark.parametrize(
    "max_lr, count, expected",
    [
        (2.0, 6, HOLDS),
        (0.05, 6, DOES_NOT_HOLD),
        (2.0, 5, UNDECIDED),
    ],
)
def test_two_against_a_tenth(max_lr, count, expected):
    rows = suggestion_rows([(1e-3, max_lr)] * count, KERAS)
    found = judged.two_against_a_tenth(study(posts_config(), suggestions=rows))
    known = (max_lr, max_lr) if count >= 6 else None
    assert found.verdict == expected and found.interval == pytest.approx(known)
    assert verdict_of(judged.two_against_a_tenth, suggestions=rows) == UNDECIDED


@pytest.mark.parametrize("max_lr, expected", [(1.0, HOLDS), (1e-2, DOES_NOT_HOLD)])
def test_unsafe_without_smoothing(max_lr, expected):
    validated = curve_rows([curve()], sweep="validation").assign(val_loss=curve(1e-3))
    frames = {
        "curves": [curve_rows([curve(0.1)] * 8, KERAS), curve_rows([curve(0.1)] * 8), validated],
        "suggestions": [
            suggestion_rows([(1e-4, max_lr)] * 8, KERAS),
            suggestion_rows([(1e-4, 1e-2)] * 8),  # fastai's is beside it, whatever it is
            suggestion_rows([(1e-4, 1.0)], sweep="validation"),
        ],
    }
    found = judged.unsafe_without_smoothing(study(**frames))
    assert found.verdict == expected and "1 of 1 validated" in found.evidence
    frames["suggestions"] = frames["suggestions"][1:]
    assert verdict_of(judged.unsafe_without_smoothing, **frames) == UNDECIDED


@pytest.mark.parametrize(
    "seconds, expected",
    [
        ({"run0": 2.0, "run1": 4.0, "v0": 99.0}, HOLDS),  # 33 times the median of 2 and 4
        ({"run0": 2.0, "run1": 4.0, "v0": 29.0}, DOES_NOT_HOLD),
        ({"run0": 2.0, "v1": 10.0, "v0": 29.0}, UNDECIDED),  # 5 and 14.5
        ({"run0": 2.0}, UNDECIDED),
    ],
)
def test_validation_cost(seconds, expected):
    plain = curve_rows([curve()] * 2)
    validated = curve_rows([curve()] * 2, sweep="validation")
    validated["run"] = validated["run"].str.replace("run", "v")
    frames = {"curves": pd.concat([plain, validated]), "seconds": seconds}
    found = judged.validation_cost(study(posts_config(), **frames))
    assert found.verdict == expected
    found = judged.validation_cost(study(**frames))  # not the post's scale
    assert found.verdict == UNDECIDED
    assert "500 validated after each batch of 128: 2.3 times" in found.evidence
    elsewhere = posts_config()
    elsewhere.sweeps["validation"].devices = {"torch": "cuda"}
    found = judged.validation_cost(study(elsewhere, **frames))  # times of two machines
    assert found.verdict == UNDECIDED and "No times are kept" in found.evidence


@pytest.mark.parametrize(
    "steady, expected",
    [
        ({}, UNDECIDED),
        ({"c": 1.0, "d": 1.1, "w": 8.0}, DOES_NOT_HOLD),
    ],
)
def test_unsteady_times_decide_nothing_also_beside_steady_ones(steady, expected):
    curves = [
        curve_rows([curve()], case, sweep=sweep, run=run)
        for case, runs in ((KERAS, "abv"), (FASTAI, "cdw"))
        for run, sweep in zip(runs, ("weights", "weights", "validation"), strict=True)
    ]
    seconds = {"a": 1.0, "b": 4.0, "v": 20.0} | steady
    found = judged.validation_cost(study(posts_config(), curves=curves, seconds=seconds))
    assert found.verdict == expected
    told = "more others than the rest, in 1 more" if steady else "more others than the rest."
    assert told in found.evidence and found.interval == pytest.approx(
        [8 / 1.05 if steady else 8] * 2
    )


@pytest.mark.parametrize(
    "outcomes, expected",
    [
        (["trains"] * 7 + ["stalls"] * 3, HOLDS),
        (["diverged"] * 4 + ["trains"] * 4, DOES_NOT_HOLD),
        (["trains"] * 4, UNDECIDED),
    ],
)
def test_minimum_is_safe(outcomes, expected):
    cells = [
        {"lr_kind": "min", "outcome": outcome, "pair": name, "weights_seed": seed}
        for seed, (outcome, name) in enumerate(zip(outcomes, names(len(outcomes)), strict=True))
    ]
    other = {"outcome": "diverged"}  # at the maximum: it does not count
    assert verdict_of(judged.minimum_is_safe, **trained(*cells, other)) == expected
    # Many trainings of the same weights are one trial.
    same = [cell | {"weights_seed": 0} for cell in cells]
    assert verdict_of(judged.minimum_is_safe, **trained(*same, other)) == UNDECIDED
    # A rule's fallback is no steepest descent.
    frames = trained(*cells, other)
    frames["pairs"] = pairs(*[True] * len(cells))
    fell = suggestion_rows([(0.01, 0.1)] * 2, FASTAI).assign(run=["A", "B"], fallback=[True, False])
    found = judged.minimum_is_safe(study(suggestions=fell, **frames))
    assert found.verdict == UNDECIDED and found.evidence.startswith("No training at the steepest")
    found = judged.minimum_is_safe(study(suggestions=fell.assign(fallback=False), **frames))
    assert found.verdict == expected


@pytest.mark.parametrize("power, expected", [(1.0, HOLDS), (-1.0, DOES_NOT_HOLD), (0, UNDECIDED)])
def test_larger_batch(power, expected):
    sizes = [64, 128, 256, 512] * 2
    ranges = [(1e-6, 1e-4 * s**power * (1 + 0.02 * (i % 3))) for i, s in enumerate(sizes)]
    for sweep in ("batch_size", "batch_size_epoch"):
        rows = suggestion_rows(ranges, sweep=sweep, batch_sizes=sizes)
        rows["weights_seed"] = rows["order_seed"] = rows["order_seed"] // 4
        found = judged.larger_batch(study(suggestions=rows))
        assert found.verdict == expected and f"n = 8 runs of sweep {sweep}" in found.evidence
        assert ("contains linear scaling" in found.evidence) == (power == 1)
    one_size = suggestion_rows(ranges, sweep="batch_size")
    assert verdict_of(judged.larger_batch, suggestions=one_size) == UNDECIDED
    other_way = rows.assign(sweep="batch_size", max_lr=1e-6 / rows["max_lr"])  # and none, likewise
    assert verdict_of(judged.larger_batch, suggestions=[rows, other_way]) == UNDECIDED


def test_flattening():
    sizes = [64, 128, 256, 512] * 2
    jitter = [0.01, 0, 0.02, 0.01, 0, 0.01, 0.01, 0.02]

    def verdict(floors, steps):
        """One curve in more or fewer steps: the fewer, the more the smoothed one lags."""
        losses = [
            np.interp(np.linspace(0, STEPS - 1, n), np.arange(STEPS), curve(0.1, floor=floor + j))
            for floor, n, j in zip(floors, steps, jitter, strict=True)
        ]
        frames = {
            "curves": curve_rows(losses, sweep="batch_size_epoch", batch_sizes=sizes),
            "suggestions": suggestion_rows(RANGES, sweep="batch_size_epoch", batch_sizes=sizes),
        }
        return verdict_of(judged.flattening, **frames)

    assert verdict([1.0] * 8, [80, 70, 40, 24] * 2) == HOLDS  # the raw falls are the same
    assert verdict([1.0, 1.4, 1.8, 2.2] * 2, [60] * 8) == DOES_NOT_HOLD  # the raw falls differ
    assert verdict([1.0] * 8, [60] * 8) == UNDECIDED  # nothing flattens


@pytest.mark.parametrize(
    "at_max, in_middle, expected",
    [
        ("diverged", "trains", HOLDS),
        ("trains", "overfits", DOES_NOT_HOLD),
        ("trains", "trains", UNDECIDED),
        ("diverged", "diverged", UNDECIDED),
    ],
)
def test_narrower_is_safer(at_max, in_middle, expected):
    cells = [
        {"pair": name, "lr_kind": kind, "outcome": outcome, "weights_seed": seed}
        for seed, name in enumerate(names(6))
        for kind, outcome in (("max", at_max), ("middle", in_middle))
    ]
    assert verdict_of(judged.narrower_is_safer, **trained(*cells)) == expected
    assert verdict_of(judged.narrower_is_safer, **trained(*cells[:4])) == UNDECIDED
    both_ranges = [cell | {"lr_of": lr_of} for cell in cells[:8] for lr_of in "AB"]
    assert verdict_of(judged.narrower_is_safer, **trained(*both_ranges)) == UNDECIDED  # 4 weights


@pytest.mark.parametrize(
    "by_policy, expected",
    [
        ((0.50, 0.52), HOLDS),
        ((0.2, 0.9), DOES_NOT_HOLD),
        ((math.nan, math.nan), DOES_NOT_HOLD),
        (None, UNDECIDED),
    ],
)
def test_policies_help(by_policy, expected):
    cells = []
    for name in names(6):
        for policy, pair in (("constant", (0.3, 0.6)), ("triangular", by_policy)):
            for lr_of, accuracy in zip("AB", pair or (), strict=bool(pair)):
                # The A -> B cell goes on for longer; it is compared after the same three epochs.
                after = [0.1, 0.2, accuracy] + [0.99] * (policy == "constant" and lr_of == "A")
                cells.append(
                    {
                        "pair": name,
                        "lr_of": lr_of,
                        "policy": policy,
                        "val_accuracy": after,
                        "val_loss": [1.0] * len(after),
                    }
                )
    assert verdict_of(judged.policies_help, **trained(*cells)) == expected


# --- stage suggest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = {
        "study": {
            "name": "t",
            "backends": ["torch"],
            "protocols": ["blog_fastai"],
            "sweeps": ["weights", "order"],
        },
        "protocols": {"blog_fastai": {"rule": "blog_fastai"}},
        "sweeps": {"weights": {}, "order": {"new_weights": False}},
        "divergence": {"cases": []},
    }
    Path("params.yaml").write_text(json.dumps(params))
    Path("data/t/curves").mkdir(parents=True)
    for sweep in ("weights", "order", "gone"):  # a sweep that the study no longer has
        rows = curve_rows([curve(), curve(1.0)], sweep=sweep)
        rows.to_parquet(f"data/t/curves/torch-blog_fastai-{sweep}.parquet")
    return Path("data/t")


def test_suggest_stage_reads_the_curves_that_params_name(folder):
    from lrrt.stages import suggest

    suggest.main([])
    written = (folder / "suggestions.parquet").read_bytes()
    table = pd.read_parquet(folder / "suggestions.parquet")
    assert table["sweep"].unique().tolist() == ["weights", "order"]
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == SUGGESTION_TYPES
    suggest.main([])
    assert (folder / "suggestions.parquet").read_bytes() == written


@pytest.mark.parametrize(
    "content, named",
    [
        (None, "python -m lrrt.stages.experiment sweep"),
        (b"", "a Parquet file"),
        (b"PAR1 cut", "a Parquet file"),
    ],
)
def test_suggest_stage_refuses_in_one_line(folder, content, named, capsys):
    from lrrt.stages import suggest

    path = folder / "curves" / "torch-blog_fastai-order.parquet"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        suggest.main([])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1
    assert named in error and path.name in error
    assert not (folder / "suggestions.parquet").exists()
