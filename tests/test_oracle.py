"""The oracle's grids: chosen by rule from results that are known, scored, resumable."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lrrt.config import Config
from lrrt.core.networks import resnet, transformer
from lrrt.core.protocol import DataSection, Protocol, Ramp
from lrrt.errors import InputError
from lrrt.experiments.oracle import design as designing
from lrrt.experiments.oracle.design import Design, Setting
from lrrt.experiments.oracle.section import Section, SettingSection, check
from lrrt.experiments.oracle.tables import SCHEMAS, tables
from lrrt.runs.store import Result, Store

BEST = 0.1


def planned(settings=1, **changes) -> Design:
    protocol = Protocol(ramp=Ramp(1e-7, 10.0))
    setting = SettingSection("d", "sgd", 32, 100, resnet.Model())
    names = [f"s{i}" for i in range(settings)]
    section = Section(settings=dict.fromkeys(names, setting), **changes)
    config = Config(protocols={"sgd": protocol}, oracle=section)
    made = [
        Setting(name, dataclasses.replace(setting, batch_size=32 + i), protocol, Path("d"), "d", 10)
        for i, name in enumerate(names)
    ]
    return Design(config, made)


def result(spec, collapse=1.0, random=None) -> Result:
    """Accuracy 0.9 at 0.1, 0.1 less a decade squared away, a guess from ``collapse`` on; a range
    test that falls until 0.1 and explodes at 1."""
    record = {"initial_loss": 2.3, "stopped_at_step": None, "seconds": 2.0, "versions": {}}
    if spec.kind == "range_test":
        lr = np.geomspace(1e-7, 10, spec.steps)
        loss = 2.3 - np.clip(np.log10(lr / 1e-3), 0, 2) + np.where(lr > 1, lr, 0)
        columns = {"lr": lr, "loss": loss, "penalty": 0 * lr, "grad_norm": 0 * lr}
        return Result(columns, record)
    if spec.kind == "instability":
        return Result({"lr": np.array([0.01 if spec.weights_seed % 2 else np.nan])}, record)
    accuracy = 0.9 - 0.1 * np.log10(spec.lr / BEST) ** 2
    loss = 1.0 - accuracy
    if spec.lr >= collapse:
        accuracy, loss = 0.1, np.nan
    names = ("train_loss", "val_loss")
    arrays = {name: np.full(spec.epochs, loss) for name in names}
    return Result(arrays | {"val_accuracy": np.full(spec.epochs, accuracy)}, record)


def fill(design: Design, store: Store, **known) -> Store:
    """Carry out all rounds as the stage does."""
    for _, specs in design.batches(store):
        for spec in specs:
            store.put(spec, result(spec, **known))
    return store


def test_a_setting_has_45_trainings_with_each_schedule(tmp_path):
    design = planned(schedules=["constant", "one_cycle"])
    store = fill(design, Store(tmp_path))
    runs = design.plan(store)
    counts = {stage: sum(run.stage == stage for run in runs) for stage in designing_stages(runs)}
    assert counts == {
        "range_test": 18,
        "short": 30,
        "instability": 6,
        "coarse": 22,
        "fine": 56,
        "edge": 12,
    }
    fine = {run.spec.lr for run in runs if run.stage == "fine"}
    assert fine == {0.0178, 0.0316, 0.0562, 0.1, 0.178, 0.316, 0.562}
    edge = {run.spec.lr for run in runs if run.stage == "edge"}
    assert edge == {0.422, 0.562, 0.75}  # from the last that works, 0.316, to the first that fails


def designing_stages(runs) -> set[str]:
    return {run.stage for run in runs}


def test_nothing_is_fine_before_the_coarse_grid_is_there(tmp_path):
    design, store = planned(), Store(tmp_path)
    first = design.plan(store)
    assert {run.stage for run in first} == {"range_test", "short", "instability", "coarse"}
    assert [run.spec for run in first] == design.specs
    for run in first[:-1]:
        store.put(run.spec, result(run.spec))
    assert {run.schedule for run in design.plan(store) if run.stage == "fine"} == {"constant"}


def test_the_seeds_of_trainings_and_of_range_tests_are_apart():
    runs = planned().first(planned().settings[0])
    tests = {run.spec.weights_seed for run in runs if run.stage in ("range_test", "short")}
    trained = {run.spec.weights_seed for run in runs if run.stage == "coarse"}
    assert tests == set(range(100, 106)) and trained == {0}


def test_no_edge_where_nothing_collapses(tmp_path):
    design = planned()
    runs = design.plan(fill(design, Store(tmp_path), collapse=np.inf))
    assert not any(run.stage == "edge" for run in runs)


def test_equal_accuracies_are_told_apart_by_log_loss():
    scores = {q: (0.9, 0.5 - 0.01 * q) for q in (-4, -2, 0)} | {2: (0.2, 2.0)}
    assert designing.best_and_edge(scores, 0.1) == (0, 0)


@pytest.mark.slow(3)
@pytest.mark.parametrize("settings", [1, 2])
def test_tables_of_a_whole_and_of_a_stopped_oracle(tmp_path, settings):
    design = planned(settings)
    empty = tables(design, Store(tmp_path / "none"))
    whole = tables(design, fill(design, Store(tmp_path / "whole")))
    for found in (empty, whole):
        for name, types in SCHEMAS.items():
            assert found[name].dtypes.astype(str).to_dict() == types
    assert all(not len(empty[name]) for name in SCHEMAS)
    of_setting = whole["oracle_settings.parquet"]
    assert len(of_setting) == 2 * settings and of_setting["counts"].all()
    assert np.allclose(of_setting["best_lr"], BEST, rtol=0.05)
    assert of_setting["collapses"].all() and not of_setting["is_cut_off"].any()
    rules = whole["oracle_rules.parquet"].set_index(["schedule", "ramp_steps", "rule"])
    default = rules.loc["constant", 100, "fixed.default"]
    assert default.settings == settings and abs(default.regret) < 1e-9
    assert {"blog_fastai.middle", "raw_minimum/10", "random", "five_short"} <= set(
        rules.index.get_level_values("rule")
    )
    searched = rules.loc["constant", 100, "instability"]
    assert searched.abstained == 0.5 and np.isclose(searched.regret, 0.05)  # 0 and 0.1
    # The lowest of the five short rates that lose least is the best one here: 0.1.
    assert abs(rules.loc["constant", 100, "five_short"].regret) < 1e-9


BESIDE = dict.fromkeys(("rate_free", "precision", "same_weights", "policies"), ["s0"])


def test_what_is_asked_beside_the_grids(tmp_path):
    design = planned(2, ramps=[100], **BESIDE)
    store = fill(design, Store(tmp_path))
    runs = [run for run in design.plan(store) if run.stage in BESIDE or run.stage == "policy"]
    assert {run.setting for run in runs} == {"s0"}
    counts = {stage: sum(run.stage == stage for run in runs) for stage in designing_stages(runs)}
    # 12 draws of 5 ramps; the fine seeds; those by 5 optimisers and schedules; 2 policies' grids.
    assert counts == {"precision": 60, "same_weights": 4, "rate_free": 20, "policy": 22}
    found = tables(design, store)
    assert len(found["oracle_trainings.parquet"]) == 2 * 86  # none of them is the grid's
    lost = found["oracle_rate_free.parquet"].groupby("optimizer")
    assert lost["collapsed"].mean().to_dict() == {
        "dadapt_adam": 1,
        "prodigy": 1,
        "schedule_free": 0,
    }
    away = np.log10(0.0025 / BEST)
    assert np.allclose(lost["regret_accuracy"].mean()["schedule_free"], 0.1 * away**2, atol=0.003)
    precision = found["oracle_precision.parquet"]
    ramps = precision.groupby(["start", "ramp_steps", "tests"])["draw"].nunique()
    assert set(ramps.xs(1, level="tests")) == {12} and set(ramps.xs(3, level="tests")) == {4}
    # Every draw is the same curve here: from its own weights nothing is gained.
    weights = found["oracle_same_weights.parquet"]
    own = weights["trained_seed"] == weights["tested_seed"]
    keys = ["rule", "schedule", "trained_seed"]
    means = (weights[part].groupby(keys)["regret_accuracy"].mean() for part in (own, ~own))
    assert np.allclose(*means)
    assert own.sum() * 3 == (~own).sum()
    policies = found["oracle_policies.parquet"]
    assert set(policies["schedule"]) == {"triangular", "warm_restarts"} and len(policies) == 22


def test_a_setting_with_one_fine_seed_does_not_count(tmp_path):
    design, store = planned(), Store(tmp_path)
    for number in (0, 1):
        for run in design.round(design.settings[0], number, store):
            store.put(run.spec, result(run.spec))
    found = tables(design, store)
    assert not found["oracle_settings.parquet"]["counts"].any()
    assert len(found["oracle_scores.parquet"]) and not len(found["oracle_rules.parquet"])


@pytest.mark.slow(3)
def test_figures_show_what_was_found(tmp_path):
    pytest.importorskip("matplotlib")
    from lrrt.report import style
    from lrrt.report.figures import answer, grid, ground_truth

    found = tables(planned(3, ramps=[100]), fill(planned(3, ramps=[100]), Store(tmp_path)))
    data = SimpleNamespace(tables={name.removesuffix(".parquet"): t for name, t in found.items()})
    with style.project_style():
        for module in (answer, grid, ground_truth):
            assert {*style.encode(module.draw(data), 50)} == {"png", "svg"}
    # Known: the fixed default is the best rate, and 0.05 lost are 0.7 decades on either side.
    assert "from 0.020 to 0.50" in grid.title(data)
    assert "3 settings" in ground_truth.title(data) and "(0.0 points" in ground_truth.title(data)
    # Known: 0.1 is best, and a setting has one accuracy a rate.
    lost = answer.losses(data)
    assert (
        lost.shape[1] == 3
        and lost.min(axis=None) == 0
        and abs(lost[lost == 0].idxmax()).max() < 0.3
    )
    names = [name for name, _ in answer.shown(data)]
    assert len(names) >= 3 and "n = 3" in answer.caption(data)
    figure = answer.draw(data)
    assert {text.get_text() for text in figure.axes[1].texts} >= set(names)
    light = style.png(figure, 30)
    style.darken(figure)
    assert style.png(figure, 30) != light
    settings = data.tables["oracle_settings"]
    settings.loc[settings["setting"] == "s1", ["measure", "collapses"]] = ["log_loss", False]
    settings.loc[settings["setting"] == "s2", "is_cut_off"] = True
    said = ground_truth.caption(data)
    assert "Hollow: text (1), which is in no mean." in said and "Nothing collapses: s1." in said
    assert "Best rate at an end of what was trained: s2." in said
    with style.project_style():
        assert ground_truth.draw(data) is not None
    empty = {name: table.iloc[:0] for name, table in data.tables.items()}
    for module in (answer, grid, ground_truth):
        assert module.draw(SimpleNamespace(tables=empty)) is None


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"schedules": ["triangular"]}, "oracle.schedules"),
        ({"ramps": [10]}, "oracle.ramps"),
        ({"draws": 0}, "oracle.draws"),
        ({"minutes": -1.0}, "oracle.minutes"),
        ({"precision": ["other"]}, "oracle.precision"),
        ({"data": {"a b": DataSection()}}, "oracle.data"),
        ({"data": {"d": DataSection(path="x")}}, "oracle.data.d.path"),
    ],
)
def test_an_impossible_section_is_named(changes, key):
    with pytest.raises(InputError) as error:
        check(Config(oracle=Section(**changes)))
    assert error.value.key == key


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"data": "other"}, "data"),
        ({"protocol": "other"}, "protocol"),
        ({"batch_size": 20_000}, "batch_size"),
        ({"steps": 15}, "steps"),
        ({"measure": "loss"}, "measure"),
        ({"repeats": "other"}, "repeats"),
        ({"backend": "other"}, "backend"),
        ({"model": resnet.Model(depth=9)}, "model.depth"),
        ({"model": transformer.Model()}, "data"),  # which reads no images
    ],
)
def test_an_impossible_setting_is_named(changes, key):
    check_setting(changes, f"oracle.settings.s.{key}")


def test_a_rate_free_optimiser_takes_adams_place():
    check_setting({}, "oracle.rate_free", rate_free=["s"])  # of SGD


def check_setting(changes, key, **more):
    setting = SettingSection("d", "sgd", 32, 100, resnet.Model())
    section = Section(
        data={"d": DataSection()}, settings={"s": dataclasses.replace(setting, **changes)}, **more
    )
    with pytest.raises(InputError) as error:
        check(Config(protocols={"sgd": Protocol()}, oracle=section))
    assert error.value.key == key
