"""The engine that stays on a device, held to the one that does not: on a CPU all but the graph."""

import dataclasses
import itertools

import numpy as np
import pytest

from lrrt.core import batches, network, ramp, weights
from lrrt.core.networks import resnet
from lrrt.core.protocol import Protocol, Ramp, WeightDecay
from lrrt.datasets import Dataset
from lrrt.errors import InputError
from lrrt.runs.execute import execute
from lrrt.runs.spec import RunSpec

torch = pytest.importorskip("torch")
from lrrt.backends import torch as backend  # noqa: E402
from lrrt.backends.torch import cuda  # noqa: E402  it needs PyTorch

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]
NODES = resnet.nodes(resnet.Model(depth=8, width=8), (32, 32, 3), 10)
RISING = dict(start=1e-4, end=0.03, steps=12)  # by a factor of 300 in twelve steps


@pytest.fixture(scope="module")
def dataset():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (260, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, 260)
    pixels = images[:220] / 255
    mean, std = pixels.mean(axis=(0, 1, 2)), pixels.std(axis=(0, 1, 2))
    splits = (images[:220], labels[:220], images[220:], labels[220:])
    return Dataset(*splits, mean, std, tuple("0123456789"), "random")


@pytest.fixture
def on_device(monkeypatch, request):
    """``device="cuda"`` gets the engine on ``request.param``, a CPU for want of a GPU."""
    device = torch.device(request.param)

    def build(nodes, protocol, initial, autocast_dtype, precision):
        return cuda.DeviceNetwork(nodes, protocol, initial, autocast_dtype, device)

    if request.param == "cpu":
        monkeypatch.setattr(cuda, "build", build)
    return request.param


def spec_of(dataset, protocol=None, **changes) -> RunSpec:
    protocol = protocol or Protocol(ramp=Ramp(**RISING))
    values = dict(
        kind="range_test",
        backend="torch",
        protocol=protocol,
        data_digest=dataset.digest,
        model=resnet.Model(depth=8, width=8),
        weights_seed=1,
        order_seed=2,
        batch_size=16,
        steps=12,
    )
    return RunSpec(**{**values, **changes})


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("augmentation", "flip", "normalise"),
    [("none", False, True), ("none", True, False), ("crop", True, True), ("shift", True, False)],
)
def test_batches_are_those_of_the_host_to_the_bit(dataset, device, augmentation, flip, normalise):
    protocol = Protocol(augmentation=augmentation, flip=flip, normalise=normalise)
    plan = batches.BatchPlan(220, 16, 5, augmentation, flip)
    data = (dataset.train_images, dataset.train_labels, dataset.mean, dataset.std)
    made = cuda.DeviceBatches(*data, plan, 15, protocol, torch.device(device))
    for step in (0, 3, 14):  # the last is in the second epoch
        images, labels = made.batch(torch.tensor([step], device=device))
        draws = plan.draws(step)
        expected = batches.apply(dataset.train_images, draws, protocol, dataset.mean, dataset.std)
        assert images.cpu().numpy().tobytes() == expected.tobytes()
        assert labels.tolist() == dataset.train_labels[draws.indices].tolist()


FACTORS = list(
    itertools.product(
        ("lr_inside", "lr_outside"),
        (None, 0.5),
        (
            WeightDecay(),
            WeightDecay("l2", 0.01, 2.0, 1.0, 0.5),
            WeightDecay("decoupled", 0.5),
        ),
    )
)


@pytest.mark.parametrize("on_device", DEVICES, indirect=True)
@pytest.mark.parametrize(("form", "clip", "decay"), FACTORS)
def test_range_test_is_that_of_the_host(dataset, on_device, form, clip, decay):
    protocol = Protocol(
        momentum_form=form,
        gradient_clip=clip,
        weight_decay=decay,
        augmentation="shift",
        ramp=Ramp(**RISING),
    )
    host = execute(spec_of(dataset, protocol), dataset).arrays
    device = execute(spec_of(dataset, protocol, device="cuda"), dataset).arrays
    assert device.keys() == host.keys()
    for name in host:
        assert device[name] == pytest.approx(host[name], rel=1e-3, abs=1e-7), name
    assert device["loss"] == pytest.approx(host["loss"], rel=2e-5)
    assert np.ptp(host["loss"]) > 0.01


@pytest.mark.parametrize("device", DEVICES)
def test_weights_after_a_changing_lr_are_those_of_single_steps(dataset, device):
    """Against the same engine fed step by step, where each LR is a number: no graph there."""
    protocol = Protocol(ramp=Ramp(**RISING))
    lrs = ramp.training_lrs(protocol.ramp, 12)
    plan = batches.BatchPlan(220, 16, 2, protocol.augmentation, protocol.flip)
    initial = weights.draw(NODES, protocol.weights, protocol.dense_bias, 1)
    one, two = (
        cuda.DeviceNetwork(NODES, protocol, initial, None, torch.device(device)) for _ in range(2)
    )
    data = (dataset.train_images, dataset.train_labels, dataset.mean, dataset.std)
    train = one.resident(*data, plan, lrs)
    untouched = one.export()
    assert all(np.array_equal(untouched[name], initial[name]) for name in initial)
    taken = list(train(0, 5))
    resumed = cuda.DeviceNetwork(NODES, protocol, initial, None, torch.device(device))
    resumed.restore(one.state())
    taken += train(5, 12)
    assert [*resumed.resident(*data, plan, lrs)(5, 12)] == taken[5:]
    for step, lr in enumerate(lrs):
        draws = plan.draws(step)
        x = batches.apply(dataset.train_images, draws, protocol, dataset.mean, dataset.std)
        expected = two.step(x, dataset.train_labels[draws.indices], float(lr))
        assert taken[step] == pytest.approx(expected, rel=1e-6)
    first, second = one.export(), two.export()
    for name in first:
        assert first[name] == pytest.approx(second[name], rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_validator_gives_what_evaluation_gives(dataset, device, padding, statistics):
    protocol = Protocol(padding=padding, normalise=False)
    initial = weights.draw(NODES, protocol.weights, protocol.dense_bias, 1)
    made = cuda.DeviceNetwork(NODES, protocol, initial, None, torch.device(device))
    test = batches.prepare(dataset.test_images, protocol, dataset.mean, dataset.std)
    test = test, np.asarray(dataset.test_labels)
    validate = made.validator(*test, statistics)
    found = []
    for lr in (0.02, 0.05):  # the network as it is at each call
        made.step(*test, lr)
        found.append(validate())
        assert found[-1] == pytest.approx(made.evaluate(*test, statistics), rel=1e-5)
    assert found[0] != found[1]


def test_fusing_keeps_the_function():
    """To the bit on a CPU, where a fused node is carried out one operation after the other."""
    protocol = Protocol(padding="same")
    drawn = weights.draw(NODES, protocol.weights, protocol.dense_bias, 1)
    folded, arrays = network.fold(NODES, drawn, protocol.batch_norm_epsilon)
    fused = network.fuse(folded)
    operations = [(n.operation, isinstance(n, network.FusedConv), len(n.inputs)) for n in fused]
    assert operations == [
        *[("conv", True, 1), ("conv", True, 1), ("conv", True, 2)],  # the stem, the first block
        *[("conv", True, 1), ("conv", False, 1), ("conv", True, 2)] * 2,  # with a shortcut
        *[("global_average_pool", False, 1), ("dense", False, 1)],
    ]
    images, labels = np.random.default_rng(0).normal(size=(8, 32, 32, 3)), np.arange(8)
    one, two = (
        backend.build(nodes, protocol, arrays).evaluate(images.astype(np.float32), labels)
        for nodes in (folded, fused)
    )
    assert one == two
    assert network.fuse(fused) == fused


def test_what_something_else_reads_is_not_fused():
    conv = network.Node("conv", "conv", ("input",), 8, 8)
    relu = network.Node("relu", "relu", ("conv",), 8)
    twice = network.Node("twice", "add", ("conv", "relu"), 8)
    assert network.fuse([conv, relu, twice]) == [conv, relu, twice]
    assert network.fuse([relu]) == [relu]  # of no convolution
    other = network.Node("other", "conv", ("input",), 8, 8)
    both = network.Node("both", "add", ("conv", "other"), 8)
    after = network.Node("after", "relu", ("both",), 8)
    fused = network.FusedConv("conv", "conv", ("input", "other"), 8, 8)
    assert network.fuse([conv, other, both, after]) == [other, fused]


def test_only_float32_and_tf32_are_fused():
    protocol = Protocol()
    drawn = weights.draw(NODES, protocol.weights, protocol.dense_bias, 1)
    for dtype, expected in ((None, 7), (torch.bfloat16, 0)):
        made = cuda.DeviceNetwork(NODES, protocol, drawn, dtype, torch.device("cpu"))
        assert sum(isinstance(n, network.FusedConv) for n in made._fold().nodes) == expected


@pytest.mark.parametrize("on_device", DEVICES, indirect=True)
def test_validation_leaves_the_curve_alone_and_trainings_go_on_it_too(
    dataset, on_device, monkeypatch
):
    with monkeypatch.context() as patched:  # a range test has its validator
        patched.delattr(backend.TorchNetwork, "evaluate")
        plain, validated, again = (
            execute(spec_of(dataset, device="cuda", validation=kind), dataset).arrays
            for kind in ("none", "running", "running")
        )
    assert all(validated[name].tobytes() == again[name].tobytes() for name in validated)
    assert all(plain[name].tobytes() == validated[name].tobytes() for name in plain)
    host = execute(spec_of(dataset, validation="running"), dataset).arrays
    assert validated["val_loss"] == pytest.approx(host["val_loss"], rel=1e-3)
    training = spec_of(dataset, kind="training", lr=0.05, epochs=2, steps=4)
    expected = execute(training, dataset).arrays
    found = execute(dataclasses.replace(training, device="cuda"), dataset).arrays
    for name in expected:
        assert found[name] == pytest.approx(expected[name], rel=1e-3), name


@pytest.mark.parametrize("on_device", DEVICES, indirect=True)
def test_training_stops_where_the_host_stops(dataset, on_device):
    training = spec_of(dataset, kind="training", lr=1e12, epochs=3, steps=4)
    host = execute(training, dataset)
    device = execute(dataclasses.replace(training, device="cuda"), dataset)
    stopped = host.record["stopped_at_step"]
    assert stopped is not None and device.record["stopped_at_step"] == stopped


def test_no_gpu_and_tf32_on_a_cpu_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    protocol = Protocol()
    initial = weights.draw(NODES, protocol.weights, protocol.dense_bias, 1)
    with pytest.raises(InputError, match="launcher.device"):
        backend.build(NODES, protocol, initial, device="cuda")
    with pytest.raises(InputError, match="precision"):
        backend.build(NODES, protocol, initial, precision="tfloat32")
