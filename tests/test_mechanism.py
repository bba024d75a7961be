"""Curvature along a ramp: the eigenvalue against full Hessians, a ramp that it does not move."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import synthetic_study
import torch
import torch.nn.functional as F
from frames import study_of_nothing_but

from lrrt.backends.torch import curvature
from lrrt.backends.torch.curvature import TOLERANCE, largest_eigenvalue
from lrrt.backends.torch.forward import batch_statistics, forward
from lrrt.backends.torch.network import TorchNetwork
from lrrt.core.network import Node, parameters
from lrrt.core.networks import resnet
from lrrt.core.protocol import Protocol, Ramp, WeightDecay
from lrrt.core.weights import draw
from lrrt.datasets import Dataset
from lrrt.errors import InputError
from lrrt.experiments.stability.design import Probe, measured_steps, probes
from lrrt.experiments.stability.tables import MECHANISM_TYPES, crossing, mechanism, turns
from lrrt.report import style, wording
from lrrt.report.figures import mechanism as figure
from lrrt.report.study import StudyData
from lrrt.runs.execute import _curvature, execute
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Result

torch.set_num_threads(1)
STEPS = 10
L2 = WeightDecay("l2", 1e-2, 2.0, 1.0, 0.5)


# --- the eigenvalue


@pytest.mark.parametrize("lowest", [-1.0, -50.0])
def test_a_quadratics_largest_eigenvalue_is_found(lowest):
    """Also where another is larger in size but negative."""
    random = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(random.standard_normal((60, 60)))
    eigenvalues = np.linspace(lowest, 12.0, 60)
    matrix = torch.tensor(rotation * eigenvalues @ rotation.T, dtype=torch.float32)
    x = torch.zeros(60, requires_grad=True)
    with torch.no_grad():
        x += torch.tensor(random.standard_normal(60))
    found = largest_eigenvalue(x @ matrix @ x / 2, [x])
    assert found.eigenvalue == pytest.approx(12, rel=2 * TOLERANCE)  # others are 0.2 below
    residual = matrix.double().numpy() @ found.vector - found.eigenvalue * found.vector
    assert np.linalg.norm(residual) < 1.1 * TOLERANCE * 12
    assert 7 <= found.products < 60
    again = largest_eigenvalue(x @ matrix @ x / 2, [x], found.vector)
    assert again.eigenvalue == pytest.approx(12, rel=2 * TOLERANCE)
    assert again.products <= found.products


@pytest.mark.parametrize("parts", [[4, 1], [5]])
def test_a_loss_that_is_not_finite_has_none(parts):
    tensors = [torch.ones(size, requires_grad=True) for size in parts]
    for loss in (
        sum(t.sum() for t in tensors) * np.inf,
        sum((t - 1).sqrt().sum() for t in tensors),
    ):
        found = largest_eigenvalue(loss, tensors)
        assert np.isnan(found.eigenvalue) and found.vector is None


def small_network(protocol: Protocol) -> tuple[TorchNetwork, np.ndarray, np.ndarray]:
    """A residual network of 339 parameters, with every operation of the ResNet, and a batch for it.

    Its 8 channels keep PyTorch 2.13 (oneDNN) within its arrays in the second backward pass.
    """
    nodes = [
        Node("conv1", "conv", ("input",), 8, 3, kernel=3, stride=2),
        Node("norm1", "batch_norm", ("conv1",), 8, 8),
        Node("relu1", "relu", ("norm1",), 8),
        Node("conv2", "conv", ("relu1",), 8, 8),
        Node("norm2", "batch_norm", ("conv2",), 8, 8),
        Node("add", "add", ("norm2", "relu1"), 8),
        Node("relu2", "relu", ("add",), 8),
        Node("pool", "global_average_pool", ("relu2",), 8),
        Node("dense", "dense", ("pool",), 3, 8),
    ]
    weights = draw(nodes, "he_uniform", "zero", 3)
    random = np.random.default_rng(1)
    images = random.standard_normal((8, 8, 8, 3)).astype(np.float32)
    labels = random.integers(0, 3, 8)
    return TorchNetwork(nodes, protocol, weights, None, torch.device("cpu")), images, labels


@pytest.mark.parametrize("decay", [WeightDecay(), dataclasses.replace(L2, value=0.5)])
def test_a_small_networks_largest_eigenvalue_is_that_of_its_full_hessian(decay):
    protocol = Protocol(weight_decay=decay)
    network, images, labels = small_network(protocol)
    trained = [p for p in parameters(network.nodes) if p.trained]
    strengths = dict(network.penalised)
    sizes = [tensor.numel() for tensor in network.trained]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = [
            part.view_as(t) for part, t in zip(flat.split(sizes), network.trained, strict=True)
        ]
        tensors = network.tensors | dict(zip((p.name for p in trained), parts, strict=True))
        inputs = torch.tensor(images).permute(0, 3, 1, 2)
        logits = forward(network.nodes, tensors, protocol, batch_statistics, inputs, network.masks)
        penalty = sum(s * parts[i].square().sum() for i, s in strengths.items())
        return F.cross_entropy(logits, torch.tensor(labels)) + penalty

    flat = torch.cat([tensor.detach().reshape(-1) for tensor in network.trained])
    hessian = torch.autograd.functional.hessian(loss, flat)
    expected = torch.linalg.eigvalsh(hessian.double())[-1].item()
    assert len(flat) == sum(sizes) == 339 and expected > 0.1
    assert network.curvature(images, labels).eigenvalue == pytest.approx(expected, rel=TOLERANCE)


def test_the_studys_network_has_this_eigenpair():
    """By central differences of its gradient, in float64."""
    nodes, protocol = (
        resnet.nodes(resnet.Model(depth=8, width=8), (32, 32, 3), 10),
        Protocol(),
    )
    weights = draw(nodes, "he_uniform", "zero", 3)
    network = TorchNetwork(nodes, protocol, weights, None, torch.device("cpu"))
    random = np.random.default_rng(1)
    images = random.standard_normal((4, 8, 8, 3)).astype(np.float32)
    labels = random.integers(0, 10, 4)
    found = network.curvature(images, labels)
    names = [p.name for p in parameters(nodes) if p.trained]
    sizes = [tensor.numel() for tensor in network.trained]
    inputs, vector = torch.tensor(images).permute(0, 3, 1, 2).double(), torch.tensor(found.vector)

    def gradient(shift: float) -> torch.Tensor:
        parts = [
            (t.detach().double() + shift * part.view_as(t)).requires_grad_()
            for part, t in zip(vector.split(sizes), network.trained, strict=True)
        ]
        tensors = {name: t.detach().double() for name, t in network.tensors.items()}
        tensors |= dict(zip(names, parts, strict=True))
        logits = forward(nodes, tensors, protocol, batch_statistics, inputs, network.masks)
        loss = F.cross_entropy(logits, torch.tensor(labels))
        return torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, parts)])

    product = (gradient(1e-6) - gradient(-1e-6)) / 2e-6
    residual = torch.linalg.vector_norm(product - found.eigenvalue * vector).item()
    assert found.eigenvalue > 1 and residual < 1.1 * TOLERANCE * found.eigenvalue


def test_nothing_of_the_network_moves(monkeypatch):
    monkeypatch.setattr(curvature, "RESTARTS", 1)
    nodes = resnet.nodes(resnet.Model(depth=8, width=8), (32, 32, 3), 10)
    weights = draw(nodes, "he_uniform", "zero", 3)
    network = TorchNetwork(nodes, Protocol(), weights, None, torch.device("cpu"))
    images = np.random.default_rng(1).standard_normal((4, 8, 8, 3)).astype(np.float32)
    labels = np.arange(4)
    network.step(images, labels, 0.1)
    before = network.state()
    network.curvature(images, labels)
    after = network.state()
    assert before.keys() == after.keys() and any(name.startswith("velocity") for name in before)
    assert all(np.array_equal(after[name], array) for name, array in before.items())


# --- along a ramp


def waves() -> Dataset:
    y, x = np.mgrid[:32, :32]
    wave = (np.arange(96)[:, None, None] * 7 + 3 * y + 5 * x) % 251
    images = np.stack([wave, (2 * wave) % 256, 255 - wave], axis=-1).astype(np.uint8)
    labels = np.arange(96) % 10
    mean, std = np.array([0.49, 0.5, 0.51]), np.array([0.28, 0.29, 0.28])
    splits = (images[:80], labels[:80], images[80:], labels[80:])
    return Dataset(*splits, mean, std, tuple("0123456789"), "waves")


def plain(dataset: Dataset, end: float = 10.0, **changes) -> RunSpec:
    ramp = Ramp(start=1e-4, end=end, steps=STEPS)
    return RunSpec(
        "range_test",
        "torch",
        Protocol(ramp=ramp, **changes),
        resnet.Model(depth=8, width=8),
        dataset.digest,
        weights_seed=1,
        order_seed=2,
        batch_size=8,
        steps=STEPS,
    )


@pytest.mark.parametrize(
    "changes", [{}, {"gradient_clip": 0.5, "momentum_form": "lr_inside", "weight_decay": L2}]
)
def test_the_ramp_is_the_same_to_the_bit(changes):
    dataset = waves()
    spec = plain(dataset, **changes)
    measured = dataclasses.replace(spec, kind="curvature", measured=(0, 6))
    assert measured.key != spec.key
    ramp, probed = execute(spec, dataset).arrays, execute(measured, dataset).arrays
    for name, values in ramp.items():
        assert probed[name].tobytes() == values.tobytes()
    for name in ("eigenvalue", "products", "update_ratio"):
        assert np.flatnonzero(np.isfinite(probed[name])).tolist() == [0, 6]
    # The first update is lr times the (clipped) gradient, but for the decay.
    clip = spec.protocol.gradient_clip
    if not clip:
        weights = draw_norm(spec)
        expected = probed["lr"][0] * probed["grad_norm"][0] / weights
        assert probed["update_ratio"][0] == pytest.approx(expected, rel=1e-3)


def draw_norm(spec: RunSpec) -> float:
    """The norm of the trained parameters at the start."""
    built = resnet.nodes(spec.model, shape=(32, 32, 3), classes=10)
    values = draw(built, spec.protocol.weights, spec.protocol.dense_bias, spec.weights_seed)
    flat = [values[p.name].ravel() for p in parameters(built) if p.trained]
    return float(np.linalg.norm(np.concatenate(flat).astype(np.float64)))


def test_a_loss_that_is_not_finite_ends_the_series_and_not_the_ramp():
    dataset = waves()
    spec = plain(dataset, end=1e25)
    spec = dataclasses.replace(spec, kind="curvature", measured=(0, *range(4, STEPS)))
    found = execute(spec, dataset).arrays
    lost = np.flatnonzero(~np.isfinite(found["loss"]))
    assert len(lost) and np.isfinite(found["eigenvalue"][0])
    for name in ("eigenvalue", "products", "update_ratio"):
        assert np.isnan(found[name][lost[0] :]).all()
    assert np.isfinite(found["lr"]).all() and len(found["loss"]) == STEPS


def test_only_torch_measures_it():
    spec = dataclasses.replace(plain(waves()), backend="keras", kind="curvature", measured=(0,))
    with pytest.raises(InputError, match="torch"):
        _curvature(spec, waves(), object())


def test_keys_of_other_runs_do_not_know_of_it():
    spec = plain(waves())
    assert "measured" not in spec.to_json()
    assert spec.key == dataclasses.replace(spec, measured=()).key
    assert '"measured":[0,3]' in dataclasses.replace(spec, measured=(0, 3)).to_json()


# --- plan and table


@pytest.fixture(scope="module")
def config():
    return synthetic_study.config(
        "mechanism.protocols=[blog_keras,blog_fastai]",
        "mechanism.runs=2",
        "mechanism.points=7",
        "mechanism.batch_size=null",
    )


def test_each_protocol_is_probed_with_and_without_clipping(config):
    planned = probes(config, synthetic_study.DIGEST)
    arms = [(p.protocol, p.clipped, p.spec.weights_seed) for p in planned]
    assert len(arms) == len(set(arms)) == 2 * 2 * 2
    for probe in planned:
        assert probe.spec.protocol.gradient_clip == (1.0 if probe.clipped else None)
        assert (probe.spec.kind, probe.spec.backend) == ("curvature", "torch")
        assert len(probe.spec.measured) == 7
    off = dataclasses.replace(config, mechanism=dataclasses.replace(config.mechanism, runs=0))
    assert probes(off, synthetic_study.DIGEST) == []


def test_steps_are_measured_where_the_loss_may_turn():
    found = measured_steps(Ramp(start=1e-6, end=1.0), 61, 5)
    assert found == (20, 30, 40, 50, 60)
    assert measured_steps(Ramp(start=1e-4, end=2e3), 74, 2) == (0, 53)
    assert measured_steps(Ramp(start=1e-9, end=1e-8), 29, 3) == (0, 14, 28)
    assert measured_steps(Ramp(start=1e-3, end=1.0), 10, 100) == tuple(range(10))


class Made:
    """A store with one result for all keys."""

    path = "made"

    def __init__(self, **arrays):
        self.arrays = arrays

    def get(self, key):
        return Result(self.arrays, {})


def test_the_table_by_hand():
    lr = np.array([0.01, 0.1, 1.0])
    store = Made(
        lr=lr,
        loss=np.array([2.0, 1.0, 9.0]),
        grad_norm=np.array([4.0, 0.25, 1.0]),
        update_ratio=np.array([0.1, 0.2, np.nan]),
        products=np.array([6.0, 5.0, np.nan]),
        eigenvalue=np.array([20.0, -1.0, np.nan]),
    )
    spec = dataclasses.replace(plain(waves(), gradient_clip=0.5, momentum=0.5), steps=3)
    table = mechanism([Probe("p", True, spec)], store)
    assert table.dtypes.map(str).tolist() == list(MECHANISM_TYPES.values())
    np.testing.assert_allclose(table["effective_lr"], [0.01 / 8, 0.1, 0.5])
    np.testing.assert_allclose(table["bound"], [0.1, np.nan, np.nan])
    np.testing.assert_allclose(table["momentum_bound"], [0.15, np.nan, np.nan])
    assert len(mechanism([], store)) == 0
    assert list(turns(mechanism([], store)))[-1] == "at_turn"


def test_where_the_loss_turns_and_the_bound_is_crossed():
    steps = np.arange(60)
    lr = np.geomspace(1e-4, 1e2, 60)
    table = pd.DataFrame(
        {
            "protocol": "p",
            "clipped": False,
            "weights_seed": 0,
            "order_seed": 0,
            "run": "r",
            "step": steps,
            "lr": lr,
            "effective_lr": lr / 2,
            "loss": 2 + np.abs(np.log10(lr) - np.log10(lr[40])),
            "eigenvalue": np.where(steps % 5 == 0, 10.0, np.nan),
            "momentum_bound": np.where(steps % 5 == 0, 0.38, np.nan),
        }
    )
    row = turns(table).iloc[0]
    assert row["turn"] == lr[40]
    assert lr[35] < row["crossing"] < lr[40] and row["crossing"] == pytest.approx(2 * 0.38)
    assert crossing(table.iloc[40:]) == lr[40] and np.isnan(crossing(table.iloc[:36]))
    assert row["clipped_share"] == pytest.approx(0.5) and row["eigenvalue"] == row["at_turn"] == 10


# --- figure


@pytest.fixture(scope="module")
def data(config) -> StudyData:
    planned = probes(config, synthetic_study.DIGEST)
    store = synthetic_study.Formulas([probe.spec for probe in planned])
    return study_of_nothing_but(
        config,
        mechanism=mechanism(planned, store),
    )


def test_the_figure_shows_the_step_beside_the_bound_of_one_run_a_protocol(data):
    with style.project_style():
        drawn = figure.draw(data)
    found = turns(data.mechanism).set_index("run")
    for ax in drawn.axes:
        (points,) = [line for line in ax.lines if line.get_marker() == "o"]
        (turn,) = [line for line in ax.lines if len(line.get_xdata()) == 2]
        run = found.index[np.isclose(found["turn"], turn.get_xdata()[0])][0]
        measured = data.mechanism[data.mechanism["run"] == run].dropna(subset=["momentum_bound"])
        np.testing.assert_allclose(points.get_ydata(), measured["momentum_bound"])
    assert len(drawn.axes) == 2


def test_the_title_says_where_the_loss_turns(data):
    found = turns(data.mechanism)
    runs = found[(found["protocol"] == "blog_fastai") & ~found["clipped"]]
    ratios = (runs["turn"] / runs["crossing"]).dropna()
    ends = f"{wording.number(ratios.min())} to {wording.number(ratios.max())} (fastai protocol)"
    assert ends in figure.title(data)


def test_without_runs_there_is_no_figure(data):
    assert figure.draw(dataclasses.replace(data, mechanism=data.mechanism.iloc[:0])) is None
