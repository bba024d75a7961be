"""Tables, quantiles and intervals, on frames small enough to check by hand."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frames import KERAS, LRS, PROTOCOLS, STEPS, curve, curve_rows, suggestion_rows, write_params
from scipy import stats

from lrrt import plugins
from lrrt.analysis.published import published
from lrrt.analysis.spread import spread_of
from lrrt.analysis.statistics import common_slope, running_median, share_interval
from lrrt.analysis.suggestions import (
    CURVE_TYPES,
    SUGGESTION_TYPES,
    by_own_rule,
    runs_of,
    suggestion_table,
)
from lrrt.config import from_mapping
from lrrt.core.protocol import Ramp, WeightDecay
from lrrt.core.rules import replay
from lrrt.core.smoothing import ema
from lrrt.errors import InputError
from lrrt.experiments.sweep import dispersion
from lrrt.report import wording


def test_columns_of_the_curves_are_those_that_others_rely_on():
    identity = ["run", "backend", "protocol", "sweep", "weights_seed", "order_seed", "batch_size"]
    measured = ["lr", "loss", "penalty", "grad_norm", "val_loss", "val_accuracy"]
    assert [*CURVE_TYPES] == [*identity, "step", *measured, "device", "precision"]


def test_suggestions_are_those_of_each_rule_on_what_the_protocol_records():
    keras = dataclasses.replace(
        PROTOCOLS["blog_keras"],
        ramp=Ramp(pairing="after"),
        weight_decay=WeightDecay(kind="l2", recorded=True),
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
    empty = suggestion_table(pd.DataFrame(columns=list(CURVE_TYPES)), PROTOCOLS)
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


def test_share_interval():
    assert share_interval(0, 20) == pytest.approx((0, 0.1684), abs=1e-4)
    assert share_interval(0, 0) is None


def test_spread_has_two_modes_or_a_factor():
    high = 2 * 10 ** np.linspace(-0.2, 0.2, 17)
    found = spread_of([0.1, 0.1, 0.12, *high])
    assert (found.n, found.low, found.low_centre) == (20, 3, pytest.approx(0.1))
    assert found.centre == pytest.approx(2) and found.share == share_interval(3, 20)
    assert found.sd == pytest.approx(np.std(np.log10(high), ddof=1))
    assert wording.spread(found) == "3 of 20 runs near 0.10, the others near 2.0"
    found = spread_of([*high, np.nan])
    assert found.low == 0 and found.factor == pytest.approx(10**0.32)
    assert found.factor_low < found.factor < found.factor_high
    assert wording.spread(found).startswith("2.1-fold [")
    assert spread_of([0.1, *high]).low == 0  # one odd run is no mode
    assert spread_of([0.1, 0.1, 2, 2]).low == 0 and np.isnan(spread_of([1.0]).factor)


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


# --- the stage


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
    write_params(from_mapping(params))
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
