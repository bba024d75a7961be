"""The reading against the instrument: smoothers, replays, other ramps, restarts."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import synthetic_study
from frames import study_of_nothing_but, write_params
from synthetic_study import DIGEST, Formulas

from lrrt import plugins
from lrrt.analysis.loss_minimum import PERIOD, before_explosion, lr_at_minimum, spline
from lrrt.analysis.suggestions import read_table, runs_of
from lrrt.core import rules
from lrrt.core.recording import recording
from lrrt.core.rules import blog_fastai, blog_keras
from lrrt.core.smoothing import ema
from lrrt.datasets import Dataset, save
from lrrt.errors import InputError
from lrrt.experiments.sensitivity.design import RESTART_LRS, restarts, variants, weights_sweeps
from lrrt.experiments.sensitivity.tables import (
    LAST,
    REPLAYED,
    RESTART_TYPES,
    SENSITIVITY_TYPES,
    STEEPEST,
    landmarks,
    replay_table,
    restart_effects,
    restart_table,
    two_sided,
    variant_table,
)
from lrrt.experiments.stability.tables import MECHANISM_TYPES
from lrrt.experiments.sweep.design import sweep_specs
from lrrt.experiments.sweep.tables import curve_table
from lrrt.report import style
from lrrt.report.figures import instrument as figure
from lrrt.report.figures import restarts as restart_figure
from lrrt.report.study import StudyData
from lrrt.runs import paths
from lrrt.stages import experiment

SETTINGS = (
    "instrument.runs=3",
    "instrument.steps=[30,120]",
    "instrument.ranges=[[1e-5,10.0]]",
    "instrument.protocols=[blog_keras,blog_fastai]",
    "instrument.batch_size=null",
    "instrument.shapes=[linear]",
    "instrument.restarts=5",
    "instrument.restart_steps=20",
)


@pytest.fixture(scope="module")
def config():
    return synthetic_study.config(*SETTINGS)


@pytest.fixture(scope="module")
def curves(config):
    parts = []
    for case in weights_sweeps(config):
        specs = sweep_specs(config, DIGEST, *case)
        names = {"protocol": case[1], "sweep": case[2]}
        parts.append(curve_table(specs, names, Formulas(specs)))
    return pd.concat(parts, ignore_index=True)


# --- smoothing


def test_the_two_sided_average_keeps_constants_and_is_symmetric():
    np.testing.assert_allclose(two_sided(np.full(50, 3.0)), 3.0)
    loss = np.random.default_rng(0).standard_normal(80)
    np.testing.assert_allclose(two_sided(loss[::-1]), two_sided(loss)[::-1])
    weights = 0.9 ** (2 * np.abs(np.subtract.outer(np.arange(80), np.arange(80))))
    expected = weights @ loss / weights.sum(1)
    np.testing.assert_allclose(two_sided(loss, 0.9), expected)


def test_it_takes_as_much_noise_out_as_the_ema():
    noise = np.random.default_rng(0).standard_normal(400_000)
    inner = slice(1000, -1000)
    assert two_sided(noise)[inner].std() == pytest.approx(ema(noise)[inner].std(), rel=0.05)


def test_the_spline_halves_a_wave_of_its_period():
    wave = np.sin(2 * np.pi * np.arange(400) / PERIOD)
    smoothed = spline(3 + wave) - 3
    np.testing.assert_allclose(smoothed[100:300], wave[100:300] / 2, atol=0.01)
    np.testing.assert_allclose(spline(np.arange(30.0)), np.arange(30.0), atol=1e-9)


def test_the_lag_is_the_emas_alone():
    """A V over the logarithm of the LR, its kink at step 50: there the slope is the same."""
    lr = np.geomspace(1e-6, 1.0, 101)
    loss = 2 + 0.02 * np.abs(np.arange(101.0) - 50)
    assert lr_at_minimum(lr, loss) == lr[50]
    assert spline(loss).argmin() == 50
    late = ema(loss).argmin() - 50
    assert 15 < late < 50


def test_what_lies_beyond_the_explosion_is_left_out():
    lr = np.geomspace(1e-6, 1.0, 40)
    loss = np.r_[np.full(20, 2.0), np.full(10, 1.0), np.full(5, 50.0), np.full(5, np.nan)]
    loss[12] = np.inf  # a single step
    kept, cut = before_explosion(lr, loss)
    assert len(kept) == len(cut) == 30 and cut.max() == cut[12] == 4.0 and np.isfinite(cut).all()
    assert len(before_explosion(lr, np.full(40, np.nan))[0]) == 0
    assert np.isnan(lr_at_minimum(lr, np.full(40, np.inf)))


def test_landmarks_are_read_as_by_the_rule():
    random = np.random.default_rng(1)
    lr = np.geomspace(1e-6, 1.0, 60)
    loss = 2 - 1 / (1 + np.exp(-(np.arange(60) - 30) / 5)) + 0.1 * random.standard_normal(60)
    found = rules.replay(STEEPEST, lr, loss)
    assert found.stop_step is None
    assert landmarks(lr, ema(loss)) == (found.min_lr, found.max_lr)
    assert landmarks(lr[:16], loss[:16]) == (None, None)


# --- the rules' constants


def test_the_rules_constants_are_the_defaults():
    lr = np.geomspace(1e-6, 1.0, 80)
    loss = 2 - 1 / (1 + np.exp(-(np.arange(80) - 30) / 5)) + np.r_[np.zeros(70), np.arange(10) * 40]
    for rule in (blog_fastai, blog_keras):
        own = {"beta": rule.BETA, "stop_factor": rule.STOP_FACTOR}
        own |= {"skip_start": rule.SKIP_START, "skip_end": rule.SKIP_END}
        found = rule.suggest(lr, loss)
        assert found == rule.suggest(lr, loss, **own)
        assert found.stop_step is not None
        assert rule.suggest(lr, loss, stop_factor=np.inf).stop_step is None
        assert rule.suggest(lr, loss, beta=0.0) != found
        untrimmed = rule.suggest(lr, loss, skip_start=0, skip_end=0)
        assert untrimmed.max_lr is not None
        assert rule.suggest(lr, loss, skip_start=79).max_lr is None


# --- effects


def test_replays_on_curves_from_formulas(config, curves):
    table = replay_table(curves, config.protocols)
    assert table.dtypes.map(str).tolist() == list(SENSITIVITY_TYPES.values())
    smoothing = {("smoothing", value) for value in ("two-sided", "spline", "mean of runs")}
    for (protocol, backend), rows in table.groupby(["protocol", "backend"]):
        assert backend == config.protocols[protocol].home
        seen = set(zip(rows["setting"], rows["value"], strict=True))
        assert seen == {(setting, value) for setting, value, _ in REPLAYED} | smoothing
        assert (rows["n"] + rows["abstained"] == config.sweep.runs).all()
    known = table[table["n"] > 1]
    assert (known["low"] <= known["effect"] + 1e-12).all()
    assert (known["effect"] <= known["high"] + 1e-12).all()
    # By hand, for one.
    runs = curves[curves["protocol"] == "blog_fastai"]
    differences = []
    for _, curve in runs_of(runs):
        read = recording(curve, config.protocols["blog_fastai"])
        pair = [blog_fastai.suggest(*read, **k).max_lr for k in ({}, {"beta": 0.9})]
        differences.append(np.log10(pair[1] / pair[0]))
    row = table[
        (table["protocol"] == "blog_fastai")
        & (table["setting"] == "beta")
        & (table["value"] == "0.9")
        & (table["quantity"] == "max_lr")
    ].iloc[0]
    assert row["effect"] == pytest.approx(np.mean(differences))
    assert len(replay_table(curves.iloc[:0], config.protocols)) == 0


@pytest.mark.parametrize(
    "setting", ["sweeps.weights.precision=bfloat16", "sweep.steps=50", "sweep.seed=7"]
)
def test_the_default_is_the_weights_sweep_also_where_that_is_another(setting):
    config = synthetic_study.config(*SETTINGS, setting)
    default = variants(config, DIGEST)[0]
    sweep = sweep_specs(config, DIGEST, "torch", default.protocol, "weights")
    assert [spec.key for spec in default.specs] == [spec.key for spec in sweep[:3]]


def test_variants_change_one_thing_and_share_the_sweeps_runs(config):
    planned = variants(config, DIGEST)
    by = {(v.protocol, v.setting, v.value): v.specs for v in planned}
    assert {key[1:] for key in by} == {
        ("default", ""),
        ("steps", "30"),
        ("steps", "120"),
        ("range", "1e-05 to 10"),
        ("shape", "linear"),
    }
    for name in config.instrument.protocols:
        plain = by[name, "default", ""]
        sweep = sweep_specs(config, DIGEST, "torch", name, "weights")
        assert [spec.key for spec in plain] == [spec.key for spec in sweep[:3]]
        for setting, value in (("steps", "30"), ("steps", "120"), ("shape", "linear")):
            for before, after in zip(plain, by[name, setting, value], strict=True):
                old, new = before.protocol.ramp, after.protocol.ramp
                assert str(getattr(new, setting)) == value and after.steps == new.steps
                unchanged = {setting: getattr(old, setting)}
                assert dataclasses.replace(new, **unchanged) == old
                assert (after.weights_seed, after.order_seed) == (
                    before.weights_seed,
                    before.order_seed,
                )
    same = synthetic_study.config(
        "instrument.runs=1", "instrument.steps=[60]", "instrument.ranges=[]"
    )
    assert [v.setting for v in variants(same, DIGEST)] == ["default"]


def test_other_ramps_are_read_by_every_rule(config):
    planned = variants(config, DIGEST)
    store = Formulas([spec for variant in planned for spec in variant.specs])
    table = variant_table(planned, store)
    assert set(table["rule"]) == set(plugins.names("lrrt.core.rules"))
    assert "default" not in set(table["setting"]) and (table["backend"] == "torch").all()
    rows = table[(table["rule"] == table["protocol"]) & (table["quantity"] == "max_lr")]
    # A tenth of the LR at the lowest loss: the more steps, the less the EMA lags, in decades.
    steps = rows[rows["setting"] == "steps"].set_index(["protocol", "value"])["effect"]
    for name in config.instrument.protocols:
        assert steps[name, "30"] > steps[name, "120"] - 1e-9


def test_restarts_are_trainings_at_one_lr_from_the_ramps_weights(config):
    planned = restarts(config, DIGEST)
    assert len(planned) == 2 * 3 * 5
    assert {round(r.lr, 9) for r in planned} == {0.001, 0.01, 0.1, 1.0, 10.0}
    for restart in planned:
        ramp, flat = restart.ramp, restart.spec
        assert (flat.weights_seed, flat.order_seed) == (ramp.weights_seed, ramp.order_seed)
        assert flat.protocol.ramp.start == flat.protocol.ramp.end == restart.lr
        assert flat.steps == 20
        assert set(synthetic_study.training_lrs(flat.protocol.ramp, 20)) == {restart.lr}
    off = dataclasses.replace(config, instrument=dataclasses.replace(config.instrument, restarts=0))
    assert restarts(off, DIGEST) == [] and RESTART_LRS == (1e-3, 10.0)


def test_restarts_beside_the_ramp(config):
    planned = restarts(config, DIGEST)
    store = Formulas([spec for restart in planned for spec in (restart.spec, restart.ramp)])
    table = restart_table(planned, store)
    assert table.dtypes.map(str).tolist() == list(RESTART_TYPES.values())
    one = planned[2]
    row = table[table["run"] == one.spec.key[:12]].iloc[0]
    assert row["loss"] == pytest.approx(store.get(one.spec.key).arrays["loss"][-LAST:].mean())
    # In the formulas the loss depends on the LR alone: the ramp has no history.
    near = table[(table["lr"] < 0.05) & np.isfinite(table["ramp_loss"])]
    assert np.abs(near["ramp_loss"] - near["loss"]).median() < 0.3
    effect = restart_effects(table)
    assert list(effect["value"]) == [
        f"20 steps, {name}" for _ in range(2) for name in ("lowest", "largest")
    ]
    assert (effect["quantity"] == "max_lr").all()
    assert (effect["n"] + effect["abstained"] == 3).all()
    assert (effect.loc[effect["value"] == "20 steps, lowest", "effect"].abs() <= 1).all()


def test_a_restart_that_diverges_is_infinitely_bad():
    row = {
        "protocol": "p",
        "backend": "torch",
        "weights_seed": 0,
        "order_seed": 0,
        "steps": 20,
        "run": "x",
        "ramp": "y",
        "first_loss": 2.0,
    }
    table = pd.DataFrame(
        [
            row | {"lr": 0.1, "loss": 1.0, "ramp_loss": 1.5},
            row | {"lr": 1.0, "loss": np.inf, "ramp_loss": 1.0},
            row | {"lr": 10.0, "loss": np.inf, "ramp_loss": np.inf},
        ]
    )
    lowest, largest = restart_effects(table).to_dict("records")
    assert (lowest["n"], lowest["effect"]) == (1, pytest.approx(-1)) and np.isnan(lowest["low"])
    assert (lowest["default"], largest["default"]) == (pytest.approx(1), pytest.approx(1))
    assert largest["effect"] == pytest.approx(-1)
    table["loss"] = np.inf
    assert (restart_effects(table)["n"] == 0).all()


def test_no_runs_nothing(config):
    off = dataclasses.replace(config, instrument=dataclasses.replace(config.instrument, runs=0))
    assert variants(off, DIGEST) == [] and restarts(off, DIGEST) == [] and weights_sweeps(off) == []
    for table in (
        variant_table([], Formulas([])),
        restart_effects(restart_table([], Formulas([]))),
    ):
        assert len(table) == 0 and list(table) == list(SENSITIVITY_TYPES)


def test_without_runs_the_stages_write_tables_without_rows(tmp_path, monkeypatch):
    config = synthetic_study.config("instrument.runs=0", "mechanism.runs=0")
    monkeypatch.chdir(tmp_path)
    write_params(config)
    images, labels = np.zeros((20, 4, 4, 3), np.uint8), np.arange(20) % 10
    scale = (np.full(3, 0.5), np.full(3, 0.5))
    dataset = Dataset(images, labels, images, labels, *scale, tuple("0123456789"), "nothing")
    save(dataset, paths.dataset_path(config))
    for experiment_name, name, types in (
        ("sensitivity", "instrument", SENSITIVITY_TYPES),
        ("sensitivity", "instrument_restarts", RESTART_TYPES),
        ("stability", "mechanism", MECHANISM_TYPES),
    ):
        experiment.main([experiment_name])
        table = read_table(paths.folder(config) / f"{name}.parquet", list(types), "")
        assert len(table) == 0
        assert table.dtypes.map(str).tolist() == list(types.values())
    assert not paths.store_path(config).exists()


# --- figure


@pytest.fixture(scope="module")
def data(config, curves) -> StudyData:
    ramps, flat = variants(config, DIGEST), restarts(config, DIGEST)
    specs = [spec for variant in ramps for spec in variant.specs]
    beside = restart_table(flat, Formulas([spec for r in flat for spec in (r.spec, r.ramp)]))
    tables = [
        replay_table(curves, config.protocols),
        variant_table(ramps, Formulas(specs)),
        restart_effects(beside),
    ]
    return study_of_nothing_but(
        config,
        instrument=pd.concat(tables, ignore_index=True),
        instrument_restarts=beside,
    )


def test_the_figure_shows_how_far_smoothing_moves_the_suggestion(data):
    with style.project_style():
        drawn = figure.draw(data)
    rows = data.instrument[data.instrument["setting"] == "smoothing"].dropna(subset=["effect"])
    dots = [line for ax in drawn.axes for line in ax.lines if line.get_gid()]
    shown = sorted(float(line.get_xdata()[0]) for line in dots)
    np.testing.assert_allclose(shown, sorted(10 ** -rows["effect"]))
    lags = figure.lags(data)
    assert (lags["low"] <= lags["ratio"]).all() and (lags["ratio"] <= lags["high"]).all()
    wide = dataclasses.replace(data, instrument=data.instrument.assign(low=-9.0, high=9.0))
    assert figure.title(wide).count("no clear shift") == 2


def test_every_restart_is_beside_its_ramp(config, data):
    with style.project_style():
        drawn = restart_figure.draw(data)
    found = [line for ax in drawn.axes for line in ax.lines if line.get_gid()]
    assert len(found) == 2 * 2 * config.instrument.runs


def test_without_runs_there_is_no_figure(data):
    none = dataclasses.replace(
        data, instrument=data.instrument.iloc[:0], instrument_restarts=data.instrument_restarts[:0]
    )
    assert figure.draw(none) is None and restart_figure.draw(none) is None


# --- configuration


@pytest.mark.parametrize(
    "override, part",
    [
        ("instrument.ranges=[[1.0]]", "pairs"),
        ("instrument.ranges=[[1.0,0.1]]", "more than instrument.ranges.start"),
        ("instrument.steps=[9]", "from 10 to 100000"),
        ("instrument.shapes=[cosine]", "exponential, linear"),
        ("instrument.backend=jax", "torch"),
        ("instrument.restart_steps=9", "from 10"),
        ("instrument.batch_size=0", "from 1"),
        ("instrument.depth=9", "6n"),
        ("instrument.protocols=[gone]", "blog_fastai"),
        ("mechanism.points=0", "from 1"),
        ("mechanism.protocols=[]", "at least one name"),
    ],
)
def test_bad_settings_are_refused(override, part):
    runs = f"{override.split('.')[0]}.runs=1"
    with pytest.raises(InputError, match=part) as caught:
        synthetic_study.config(runs, override)
    assert str(caught.value).startswith(override.split("=")[0])
