"""The same range tests with other rounding."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import synthetic_study

from lrrt.experiments.sweep.rounding import pairs, spreads
from lrrt.report import style
from lrrt.report.figures import rounding as figure
from lrrt.report.study import load
from lrrt.report.tables import tables


def suggestions(weights, rounded, protocol="p") -> pd.DataFrame:
    """Of each sweep one max LR a seed; min LR is a tenth of it."""
    rows = [
        {
            "backend": "torch",
            "protocol": protocol,
            "sweep": sweep,
            "batch_size": 8,
            "weights_seed": seed,
            "order_seed": seed,
            "run": f"{sweep}{seed}",
            "fallback": False,
            "min_lr": lr / 10,
            "max_lr": lr,
        }
        for sweep, lrs in (("weights", weights), ("rounding", rounded))
        for seed, lr in enumerate(lrs)
    ]
    return pd.DataFrame(rows)


def spread(weights, rounded) -> dict:
    found = spreads(pairs(suggestions(weights, rounded)))
    assert found["quantity"].tolist() == ["min_lr", "max_lr"]
    return found.iloc[1].to_dict()


def test_runs_are_paired_by_seed_and_a_shared_run_is_no_pair():
    rows = suggestions([1.0, 2.0, 3.0], [4.0, 5.0])
    rows.loc[(rows["sweep"] == "rounding") & (rows["weights_seed"] == 1), "run"] = "weights1"
    other = suggestions([7.0], [8.0], "q")
    orders = suggestions([5.0], [6.0])
    orders["sweep"] = orders["sweep"].map({"weights": "order", "rounding": "rounding_order"})
    found = pairs(pd.concat([rows, other, orders]).sample(frac=1, random_state=0))
    found = found.sort_values(["sweep", "protocol"])
    assert found[["sweep", "protocol", "max_lr", "max_lr_rounded"]].to_numpy().tolist() == [
        ["order", "p", 5.0, 6.0],
        ["weights", "p", 1.0, 4.0],
        ["weights", "q", 7.0, 8.0],
    ]


def test_what_rounding_does_is_told_from_what_seeds_do():
    seeds = 10 ** np.random.default_rng(0).normal(0, 0.5, 400)
    noise = 10 ** np.random.default_rng(1).normal(0, 0.5, (2, 400))
    half = spread(seeds * noise[0], seeds * noise[1])  # as much by rounding as by seeds
    assert (half["rounding"], half["seeds"]) == pytest.approx((0.5, 0.5), rel=0.1)
    assert half["share_low"] < half["share"] < half["share_high"]
    assert half["share"] == pytest.approx(0.5, abs=0.05)
    assert half["low"] < 0 < half["high"]
    alone = spread(*noise)
    assert alone["share"] == pytest.approx(1, abs=0.15) and alone["share_high"] == 1
    shifted = spread(seeds, 10 * seeds)  # another LR each time, but seeds say all
    assert (shifted["effect"], shifted["share"]) == pytest.approx((1, 0))
    assert shifted["rounding"] == pytest.approx(0)


def test_the_interval_of_the_share_covers_it():
    random, parts = np.random.default_rng(0), []
    for protocol in range(400):
        seeds, noise = random.normal(0, 0.6, 8), random.normal(0, 0.3, (2, 8))
        parts.append(suggestions(*10 ** (seeds + noise), str(protocol)))
    found = spreads(pairs(pd.concat(parts))).query("quantity == 'max_lr'")
    assert len(found) == 400
    covered = found["share_low"].le(0.09 / 0.45) & found["share_high"].ge(0.09 / 0.45)
    assert 0.92 < covered.mean() < 0.98


def test_few_or_equal_runs_say_no_more_than_they_can():
    one = spread([1.0], [10.0])
    assert one["effect"] == 1 and math.isnan(one["low"]) and math.isnan(one["share"])
    two = spread([1.0, 2.0], [2.0, 1.0])  # what one suggests the other does not
    assert (two["seeds"], two["share"], two["share_high"]) == (0, 1, 1)
    assert math.isnan(spread([1.0, 1.0], [1.0, 1.0])["share"])
    none = spread([math.nan, 0.0], [1.0, 1.0])
    assert none["n"] == 0 and math.isnan(none["effect"])
    assert spreads(pairs(suggestions([], []).reindex(columns=suggestions([1.0], []).columns))).empty


@pytest.mark.slow(4)
def test_the_figure_and_its_words(tmp_path):
    overrides = (
        "study.sweeps=[weights,rounding]",
        "sweep.devices.torch=cuda",
        "sweeps.rounding.runs=3",
        "attribution.runs=0",
        "variance.weights=0",
        "instrument.runs=0",
        "mechanism.runs=0",
    )
    config = synthetic_study.config(*overrides)
    synthetic_study.write(tmp_path, config)
    data = load(config, tmp_path)
    # Keras's runs are those of its weights sweep.
    assert set(data.rounding_pairs["backend"]) == {"torch"}
    assert data.rounding["n"].max() == 3 and (data.rounding["effect"] == 0).all()
    assert data.places["curves/torch-blog_fastai-weights.parquet"] == ["cuda, float32"]
    assert data.places["curves/torch-blog_fastai-rounding.parquet"] == ["cpu, float32"]
    assert "(n = 6)" in figure.caption(data)
    assert figure.places(data, again=False) == "GPU, float32"
    assert figure.places(data, again=True) == "CPU, float32"
    apart = dataclasses.replace(data)
    apart.__dict__["rounding_pairs"] = data.rounding_pairs.assign(
        max_lr_rounded=data.rounding_pairs["max_lr"] / 4
    )
    assert "max LR moves up to 4.0-fold" in figure.title(apart)
    assert "rounding" in [table.name for table in tables(data, [])]
    with style.project_style():
        drawn = figure.draw(data)
    dots = [line for line in drawn.axes[0].lines if "seed" in (line.get_gid() or "")]
    assert len(dots) == data.rounding["n"].groupby(data.rounding["quantity"]).sum()["max_lr"]
    bare = synthetic_study.config("study.sweeps=[weights]", *overrides[3:])
    synthetic_study.write(tmp_path / "bare", bare)
    without = load(bare, tmp_path / "bare")
    assert figure.draw(without) is None
