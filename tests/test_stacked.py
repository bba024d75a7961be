"""Stacked trainings: what single runs give, the same bits in whatever stack, stored as usual."""

import dataclasses

import numpy as np
import pytest
from test_runs import make_spec

from lrrt.config import DataSection, LauncherSection
from lrrt.core.networks import cnn, mlp
from lrrt.core.protocol import Protocol, WeightDecay
from lrrt.datasets import load, save
from lrrt.errors import InputError
from lrrt.runs.execute import execute
from lrrt.runs.launchers import local
from lrrt.runs.stacked import MOST, execute_stack, stacks
from lrrt.runs.store import Store

pytest.importorskip("torch")
PLAIN = Protocol(augmentation="none", flip=False, weights="torch_default")
PROTOCOLS = {
    "sgd": PLAIN,
    "sgd lr_inside, clipped, with a penalty": dataclasses.replace(
        PLAIN,
        momentum_form="lr_inside",
        gradient_clip=0.5,
        weight_decay=WeightDecay("l2", 0.01, 1.0, 1.0, 0.5),
    ),
    "adam": dataclasses.replace(PLAIN, optimizer="adam"),
    "adamw": dataclasses.replace(
        PLAIN, optimizer="adamw", weight_decay=WeightDecay("decoupled", 0.1)
    ),
}


@pytest.fixture(scope="module")
def dataset():
    return load(DataSection("digits8x8", train_images=400, test_images=50))


def specs_of(dataset, protocol=PLAIN, lrs=(1e-3, 3e-3, 1e-2), **changes):
    fields = dict(kind="training", backend="torch", model=mlp.Model(width=20), batch_size=16)
    base = make_spec(dataset.digest, protocol=protocol, steps=6, epochs=3, lr=0.0, **fields)
    base = dataclasses.replace(base, **({"stacked": True} | changes))
    return [
        dataclasses.replace(base, lr=lr, weights_seed=seed, order_seed=seed // 2, policy=policy)
        for seed in range(3)
        for lr in lrs
        for policy in ("constant", "one_cycle")
    ]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_stack_gives_what_single_runs_give(dataset, name):
    specs = specs_of(dataset, PROTOCOLS[name])
    stacked = execute_stack(tuple(specs), dataset)
    for spec, result in zip(specs, stacked, strict=True):
        single = execute(dataclasses.replace(spec, stacked=False), dataset)
        assert result.arrays.keys() == single.arrays.keys()
        for column, values in single.arrays.items():
            assert result.arrays[column] == pytest.approx(values, rel=1e-5), column
        for key in ("initial_loss", "peak_loss"):
            assert result.record[key] == pytest.approx(single.record[key], rel=1e-5)
        assert result.record["versions"] == single.record["versions"]


def same(one, two) -> bool:
    return all(np.array_equal(one.arrays[n], two.arrays[n], equal_nan=True) for n in one.arrays)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_bits_of_a_run_do_not_depend_on_its_stack(dataset, name):
    specs = specs_of(dataset, PROTOCOLS[name], lrs=(1e-3, 1e-2, 0.1, 1.0, 1e20))
    whole = execute_stack(tuple(specs), dataset)
    part = execute_stack(tuple(specs[3:10]), dataset)
    assert all(map(same, whole[3:10], part))
    assert same(execute(specs[4], dataset), whole[4])


def test_a_run_that_diverges_stops_alone_as_it_would(dataset):
    specs = specs_of(dataset, lrs=(1e-2, 1e20))
    for spec, result in zip(specs, execute_stack(tuple(specs), dataset), strict=True):
        single = execute(dataclasses.replace(spec, stacked=False), dataset)
        assert result.record["stopped_at_step"] == single.record["stopped_at_step"]
        assert (result.record["stopped_at_step"] is None) == (spec.lr == 1e-2)
        assert np.array_equal(
            np.isnan(result.arrays["val_loss"]), np.isnan(single.arrays["val_loss"])
        )


def test_stacks_are_of_runs_that_share_all_but_rate_seeds_and_policy(dataset):
    specs = specs_of(dataset)
    others = [dataclasses.replace(spec, batch_size=8) for spec in specs[:2]]
    singles = [dataclasses.replace(spec, stacked=False) for spec in specs[:2]]
    found = stacks([*singles, *specs, *others])
    assert [len(stack) for stack in found] == [1, 1, len(specs), 2]
    many = [dataclasses.replace(specs[0], weights_seed=seed) for seed in range(MOST + 1)]
    assert [len(stack) for stack in stacks(many)] == [MOST, 1]
    assert singles[0].key != specs[0].key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "range_test"}, "kind is range_test, not training"),
        ({"backend": "keras"}, "backend is keras, which has no stacks"),
        ({"precision": "bfloat16"}, "precision is bfloat16"),
        ({"model": cnn.Model()}, "no chain of dense layers"),
        ({"weights_from": "keras"}, "weights_from is set"),
    ],
)
def test_what_cannot_be_stacked_is_refused(dataset, changes, message):
    with pytest.raises(InputError, match=message):
        execute(dataclasses.replace(specs_of(dataset)[0], **changes), dataset)


@pytest.mark.slow(3)
def test_the_launcher_stores_each_run_of_a_stack(dataset, tmp_path):
    save(dataset, tmp_path / "dataset.safetensors")
    store, specs = Store(tmp_path / "store"), specs_of(dataset)
    single = dataclasses.replace(specs[0], stacked=False)
    local.run(
        [single, *specs[:3]], tmp_path / "dataset.safetensors", store, LauncherSection(workers=1)
    )
    local.run([single, *specs], tmp_path / "dataset.safetensors", store, LauncherSection(workers=1))
    found = [store.get(spec.key) for spec in specs]
    assert [result.record["stack"] for result in found] == [3] * 3 + [len(specs) - 3] * (
        len(specs) - 3
    )
    assert all(map(same, found, execute_stack(tuple(specs), dataset)))
    assert "stack" not in store.get(single.key).record
