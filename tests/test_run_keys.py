"""Runs as they are specified: their keys, the store, which runs a sweep has."""

import dataclasses
import os

import numpy as np
import pytest
from test_runs import RESULT, fake_log, fakes, make_spec  # noqa: F401 (fixtures: the backends)

from lrrt.config import Config, Sweep
from lrrt.core.protocol import Protocol, WeightDecay
from lrrt.errors import InputError
from lrrt.experiments._design import like_weights_sweep
from lrrt.experiments.sweep.design import queue, sweep_specs
from lrrt.experiments.transfer.design import training_specs
from lrrt.runs.spec import ENGINE_VERSIONS
from lrrt.runs.store import Result, Store

# --- key


def test_keys_of_each_kind_are_pinned(monkeypatch):
    changes = {
        "range_test": {},
        "training": {"lr": 0.1, "epochs": 2, "policy": "one_cycle"},
        "curvature": {"measured": (0, 4)},
    }
    specs = [make_spec(kind=kind, **values) for kind, values in changes.items()]
    specs.append(make_spec(backend="torch", device="cuda", validation="running"))  # a version ahead
    pinned = [
        "1f5a5e9df777b935ff0129fdf21b26af7837bd1f",
        "111fbb85cccca50fb7d834c9e5414ab1042f530a",
        "93d986b9fd248f49f159d1ace80a86cd20781a81",
        "927f548758d396415547d43b16e9ea374d5788bd",
    ]
    assert [spec.key for spec in specs] == pinned
    # A new version of one kind's numbers gives that kind other keys, and no other.
    monkeypatch.setitem(ENGINE_VERSIONS, "training", 2)
    new = [dataclasses.replace(spec).key for spec in specs]
    assert [key == old for key, old in zip(new, pinned, strict=True)] == [True, False, True, True]
    monkeypatch.setitem(ENGINE_VERSIONS, "range_test", 2)
    new = [dataclasses.replace(spec).key for spec in specs]
    assert [key == old for key, old in zip(new, pinned, strict=True)] == [False, False, True, False]
    assert dataclasses.replace(specs[0], kind="curvature", measured=(0, 4)).key == pinned[2]


def test_key_changes_with_what_changes_the_run_only():
    base = make_spec()
    ruled = dataclasses.replace(base.protocol, rule="blog_keras", home="keras")
    assert dataclasses.replace(base, protocol=ruled).key == base.key
    decays = [WeightDecay("decoupled", 0.1), WeightDecay("decoupled", 0.1, 2.0, 0.0)]
    decayed = [dataclasses.replace(base.protocol, weight_decay=decay) for decay in decays]
    assert len({dataclasses.replace(base, protocol=protocol).key for protocol in decayed}) == 1
    other = [
        make_spec(weights_seed=1),
        make_spec(order_seed=1),
        make_spec(threads=2),
        make_spec(precision="bfloat16"),
        make_spec(validation="running"),
        make_spec("1" * 64),
        make_spec(protocol=dataclasses.replace(base.protocol, momentum=0.8)),
    ]
    assert len({s.key for s in [base, *other]}) == len(other) + 1


# --- store


def test_store_gives_back_what_was_put(tmp_path):
    store, spec = Store(tmp_path), make_spec()
    assert store.get(spec.key) is None and not store.has(spec.key)
    store.put(spec, RESULT)
    got = store.get(spec.key)
    assert store.has(spec.key) and got.record == RESULT.record
    assert got.arrays.keys() == RESULT.arrays.keys()
    assert all(np.array_equal(got.arrays[n], a, equal_nan=True) for n, a in RESULT.arrays.items())
    files = [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()]
    assert files == [f"{spec.key[:2]}/{spec.key}.safetensors"]


def test_no_damage_is_ever_read(tmp_path, capsys):
    store, spec = Store(tmp_path), make_spec()
    store.put(spec, RESULT)
    file = store.file(spec.key)
    sound = file.read_bytes()
    cuts = [sound[:n] for n in (0, 5, 100, len(sound) - 1)]
    flips = [
        sound[:i] + bytes([sound[i] ^ (1 << i % 8)]) + sound[i + 1 :] for i in range(len(sound))
    ]
    harmless = 0
    for content in cuts + flips:
        file.write_bytes(content)
        got = store.get(spec.key)
        if got is None:
            error = capsys.readouterr().err
            assert error.count("\n") == 1 and spec.key in error
            assert not file.exists() and (tmp_path / "damaged" / file.name).exists()
        else:  # a flip in what is no content: padding
            harmless += 1
            assert all(a.tobytes() == RESULT.arrays[n].tobytes() for n, a in got.arrays.items())
    assert harmless < 16


def test_other_version_and_wrong_name_are_missing(tmp_path, capsys):
    store, spec, other = Store(tmp_path), make_spec(), make_spec(order_seed=5)
    store.put(spec, RESULT)
    content = store.file(spec.key).read_bytes()
    store.file(other.key).parent.mkdir(exist_ok=True)
    store.file(other.key).write_bytes(content)
    assert store.get(other.key) is None and "another run" in capsys.readouterr().err
    changed = content.replace(b'"format_version":"1"', b'"format_version":"0"')
    assert changed != content
    store.file(spec.key).write_bytes(changed)
    assert not store.has(spec.key) and "format version 0" in capsys.readouterr().err


def test_failed_write_leaves_the_old_entry(tmp_path, monkeypatch):
    store, spec = Store(tmp_path), make_spec()
    store.put(spec, RESULT)

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError):
        store.put(spec, Result({"lr": np.zeros(1)}, {}))
    monkeypatch.undo()
    stray = store.file(spec.key).with_name(f".{spec.key}.safetensors.0.tmp")
    stray.write_bytes(b"half")
    assert store.get(spec.key).arrays["lr"].tolist() == [0.1, 0.2]
    assert set(store.file(spec.key).parent.iterdir()) == {store.file(spec.key), stray}


# --- plan


def plan_config() -> Config:
    protocol = Protocol(home="fake")
    return Config(
        protocols={"p": protocol, "crossed": dataclasses.replace(protocol, home="torch")},
        sweeps={
            "s": Sweep(runs=3, batch_sizes=[16, 32], seed=7, new_weights=False),
            "same": Sweep(runs=3, new_weights=False, new_order=False, steps=15),
            "epoch": Sweep(whole_epoch=True, batch_sizes=[10, 20]),
        },
    )


def test_sweep_specs():
    config = plan_config()
    config.data.train_images = 330
    specs = sweep_specs(config, "d", "fake", "p", "s")
    assert [(s.batch_size, s.weights_seed, s.order_seed, s.steps) for s in specs] == [
        (16, 7, 7, 20),
        (16, 7, 8, 20),
        (16, 7, 9, 20),
        (32, 7, 7, 10),
        (32, 7, 8, 10),
        (32, 7, 9, 10),
    ]
    assert all(s.protocol.ramp.steps == s.steps and s.data_digest == "d" for s in specs)
    assert config.protocols["p"].ramp.steps is None
    assert len(sweep_specs(config, "d", "fake", "crossed", "s")) == 2
    assert [s.steps for s in sweep_specs(config, "d", "fake", "p", "same")] == [15]
    config.protocols["p"].ramp.steps = 12
    assert {s.steps for s in sweep_specs(config, "d", "fake", "p", "s")} == {12}
    assert [s.steps for s in sweep_specs(config, "d", "fake", "p", "epoch")] == [33, 16]


def test_a_backend_may_run_on_a_device_of_its_own_and_tf32_is_a_gpus():
    config = plan_config()
    config.divergence.devices = {"doubling": "cpu"}
    plain = sweep_specs(config, "d", "fake", "p", "s")
    for sweep in config.sweeps.values():
        sweep.devices, sweep.precision = {"doubling": "cuda"}, "tfloat32"
    assert sweep_specs(config, "d", "fake", "p", "s") == plain
    spec = sweep_specs(config, "d", "doubling", "p", "s")[0]
    assert (spec.device, spec.precision) == ("cuda", "tfloat32")
    config.sweeps["weights"] = config.sweeps["s"]
    scaled = config.attribution
    found = like_weights_sweep(config, "d", "doubling", config.protocols["p"], scaled)
    assert (found.device, found.precision) == ("cuda", "tfloat32")
    scaled.depth = 14  # a scale of its own: where the launcher puts it
    found = like_weights_sweep(config, "d", "doubling", config.protocols["p"], scaled)
    assert (found.device, found.precision) == ("cpu", "float32")
    run = {"weights_seed": 0, "order_seed": 0, "batch_size": 16, "min_lr": 0.1, "max_lr": 1.0}
    for devices, device, precision in (
        ({"doubling": "cuda"}, "cuda", "tfloat32"),
        ({}, "cpu", "float32"),
    ):
        config.divergence.devices, config.divergence.precision = devices, "tfloat32"
        trainings = training_specs(config, "d", "doubling", "p", "pair", {"A": run, "B": run})
        assert {(t.spec.device, t.spec.precision) for t in trainings} == {(device, precision)}


def test_a_backend_may_have_fewer_runs():
    config = plan_config()
    config.sweeps["s"].limits = {"doubling-p": 1, "fake-p": 100, "fake-crossed": 1}
    counts = {
        backend: len(sweep_specs(config, "d", backend, "p", "s"))
        for backend in ("fake", "doubling")
    }
    assert len(sweep_specs(config, "d", "fake", "crossed", "s")) == 1 * 2
    config.sweeps["s"].limits = {}
    full = len(sweep_specs(config, "d", "fake", "p", "s"))
    assert counts["fake"] == full > counts["doubling"] == len(config.sweeps["s"].batch_sizes)


def test_the_queue_takes_every_case_in_turn():
    config = plan_config()
    config.study.backends, config.study.protocols = ["fake", "doubling"], ["p"]
    config.study.sweeps = ["s", "same"]
    config.sweeps["s"].crossed_runs = 2
    planned = {case: sweep_specs(config, "d", *case) for case in config.cases}
    found = queue(config, planned)
    assert len(found) == 12
    assert [(s.backend, s.batch_size, s.order_seed) for s in found[:6]] == [
        ("fake", 16, 7),
        ("fake", 32, 7),
        ("doubling", 16, 7),
        ("doubling", 32, 7),
        ("fake", 128, 0),
        ("doubling", 128, 0),
    ]
    assert [(s.backend, s.order_seed) for s in found[-2:]] == [("fake", 9), ("fake", 9)]


@pytest.mark.parametrize(
    "names, part",
    [
        (("jax", "p", "s"), "doubling, fake, "),
        (("fake", "q", "s"), "one of: crossed, p"),
        (("fake", "p", "t"), "one of: epoch, s, same"),
    ],
)
def test_sweep_specs_name_what_exists(names, part):
    with pytest.raises(InputError, match=part):
        sweep_specs(plan_config(), "d", *names)
